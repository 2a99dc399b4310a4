"""The words and bars of attributes; those of classes are in test_report.py."""

from __future__ import annotations

import re

from dcorr_models.report.measures import headlines, measure_tables
from tests.dcorr_models.test_report import Page

EVALUATION = {
    "format": 1,
    "kind": "attributes",
    "leakage": {
        "names": ["a", "b"],
        "linear_probe": 0.625,
        "linear_per_attribute": [0.5, 0.75],
        "chance": 0.5,
        "skipped": {"Wearing_Hat": "none of the 9 training codes has it"},
    },
    "svm": {
        "intensities": [0.25, 0.75],
        "attributes": {"a": {"error": [0.9, 0.1], "std": [0.0, 0.0], "accuracy": 0.99}},
        "mean_errors": [0.9, 0.1],
        "mean_error": 0.1,
        "mean_accuracy": 0.99,
        "skipped": {},
    },
    "edits": {
        "names": ["a"],
        "matrix": [[0.87654]],
        "mean_diagonal": 0.87654,
        "mean_off_diagonal": None,
        "reached": [0.75],
        "values": [0.0, 1.0],
    },
}


def test_attributes_have_words_of_their_own():
    page = Page(headlines(EVALUATION)).text
    assert "Attributes read from z, linear 62.5\u00a0%" in page
    assert "Chance is 50\u00a0%." in page
    assert "On real test images the SVMs are right in 99\u00a0%." in page
    plain = {key: value for key, value in EVALUATION.items() if key != "kind"}
    assert "Class read from z, linear" in Page(headlines(plain)).text


def test_bars_take_the_names_of_their_group():
    drawn = measure_tables(EVALUATION, ["x", "y", "z"])
    assert "Read from z, linear, by attribute" in drawn
    rows = re.findall(r'<th scope="row">(\w+)</th><td><span class="bar"', drawn)
    assert rows == ["a", "b", "a"]


def test_curves_of_intensities_are_no_bars():
    # two intensities and two labels, by chance
    drawn = measure_tables(EVALUATION, ["x", "y"])
    assert len(re.findall('class="bar"', drawn)) == 3
    assert "0.9, 0.1" in Page(drawn).text


def test_what_was_left_out_and_why():
    page = Page(measure_tables(EVALUATION, ["a", "b"])).text
    assert "Wearing_Hat: none of the 9 training codes has it" in page
    assert page.count("Not measured") == 1  # an empty list of reasons is not shown


def test_what_is_drawn_elsewhere_is_not_listed():
    page = Page(measure_tables(EVALUATION, ["a", "b"])).text
    assert "0.8765" not in page
    assert "87.7\u00a0%" in page
    assert "Std" not in page
