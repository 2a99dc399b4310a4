from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from dcorr_models.data import LabelledImages, Splits
from dcorr_models.editing import sweep
from dcorr_models.errors import RunError
from dcorr_models.pictures import data_uri
from dcorr_models.report.attributes import (
    PANEL_ROWS,
    chosen_attributes,
    combinations,
    intensity_panels,
    single_attributes,
    with_or_without,
)
from dcorr_models.report.edit_measures import effect_matrix, svm_charts
from dcorr_models.report.lines import STYLES, Line, legend, line_chart, style_sheet, svg_file
from dcorr_models.report.pictures import picture
from tests.dcorr_models.test_report import Page, make_run, report
from tests.dcorr_models.toy import ToyAttributes, toy_attribute_cdnet, toy_cdnet

NAMES = ToyAttributes().label_names


def measured(slope: float = 1.0, names: tuple[str, ...] = NAMES) -> dict:
    """The part of an evaluation about edits of attributes."""
    steps = [-1.5 + 0.5 * i for i in range(10)]
    errors = [1 / (1 + math.exp(slope * step)) for step in steps]
    found = {"error": errors, "std": [0.02] * 10, "accuracy": 0.925}
    count = len(names)
    matrix = [[0.875 if i == j else 0.125 for j in range(count)] for i in range(count)]
    return {
        "svm": {"intensities": steps, "attributes": dict.fromkeys(names, found)},
        "edits": {"names": list(names), "matrix": matrix},
    }


@pytest.fixture
def method():
    return toy_attribute_cdnet().eval()


@pytest.fixture
def data():
    return ToyAttributes()


@pytest.fixture
def run(tmp_path, method, data):
    return make_run(tmp_path / "run", method, data)


class TestPage:
    def test_all_sections_of_a_method_of_attributes(self, run, method, data):
        run.write_json(run.evaluation, {"num_images": 48, **measured()})
        page = report(run, method, data.splits(), label_names=data.label_names)
        for title in (
            "Attributes, one at a time and together",
            "Attributes from weak to strong",
            "Are edited attributes recognised?",
            "What an edit changes",
        ):
            assert title in page.text
        assert "Every class in the style" not in page.text
        assert "Eyeglasses + Mustache + Smiling" in page.text
        assert "without Eyeglasses original rebuilt 3 1.875 0.75 −0.375 −1.5" in page.text
        assert "SVMs right in 92.5\u00a0%" in page.text
        pictures = page.named("img")
        assert len(pictures) == 24 + 3 + 4 * 2
        assert all(len(image["alt"]) > 10 for image in pictures)
        assert not page.named("script")
        charts = [svg["aria-label"] for svg in page.named("svg") if "error against" in str(svg)]
        assert len(charts) == 3
        assert "from 81.8\u00a0% at -1.5 to 4.7\u00a0% at 3" in charts[0]

    def test_same_run_same_bytes(self, run, method, data):
        report(run, method, data.splits())
        first = run.report.read_bytes()
        method.train()
        report(run, method, data.splits())
        assert run.report.read_bytes() == first

    def test_a_method_without_label_code_shows_reconstructions_alone(self, run, method, data):
        method.has_label_code = False
        page = report(run, method, data.splits())
        assert "Attributes, one" not in page.text
        assert "Attributes from" not in page.text
        assert len(page.named("img")) == 24

    def test_classes_have_no_attribute_pictures(self, method):
        toy = toy_cdnet().eval()
        test = ToyAttributes().splits().test
        classes = LabelledImages(test.images, torch.arange(48) % 4)
        assert single_attributes(toy, classes, ["a", "b", "c", "d"]) == ""
        assert intensity_panels(toy, classes, ["a", "b", "c", "d"]) == ""

    def test_an_empty_test_split(self, run, method, data):
        train, valid, test = data.splits()
        empty = Splits(train, valid, LabelledImages(test.images[:0], test.labels[:0]))
        assert not report(run, method, empty).named("img")

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"format": 2}, "format 2"),
            ({"leakage": {"linear_probe": "a"}}, "leakage.linear_probe"),
            ({"reconstruction": {"psnr": {"mean": 1}}}, "reconstruction.psnr"),
            ({"svm": {"skipped": ["Hat"]}}, "svm.skipped"),
            ({"edits": {"values": [0, "much"]}}, "edits.values"),
            ({"svm": 3}, "svm"),
            ({"svm": {"intensities": [1], "attributes": [1]}}, "svm"),
            ({"svm": {"intensities": [1], "attributes": {"Smiling": {"error": [0, 1]}}}},
             "svm.attributes.Smiling"),
            ({"edits": {"names": ["Smiling"], "matrix": [["x"]]}}, "edits"),
            ({"edits": {"names": ["Smiling"], "matrix": [[0.5, 0.5]]}}, "edits"),
            ({"leakage": "none"}, "leakage"),
        ],
    )  # fmt: skip
    def test_an_evaluation_of_another_form(self, run, method, data, changes, part):
        run.write_json(run.evaluation, {"num_images": 48, **measured(), **changes})
        with pytest.raises(RunError, match=re.escape(f"measures ({part}): run `dcorr-models eval")):
            report(run, method, data.splits())

    def test_names_are_escaped(self, run, method, data):
        evil = ("<img src=x>", '"', "a&b")
        run.write_json(run.evaluation, measured(names=evil))
        page = report(run, method, data.splits(), label_names=evil)
        assert "<img src=x>" not in run.report.read_text(encoding="utf-8")
        assert "<img src=x>" in page.text


class TestPanels:
    def test_each_cell_is_the_edit_it_says(self, method, data):
        test = data.splits().test
        html = intensity_panels(method, test, NAMES)
        rows = torch.nonzero(test.labels[:, 1] < 0.5)[:PANEL_ROWS, 0].tolist()
        images = test.__getitems__(rows)["image"]
        wanted = sweep(method, images, 1, [-1.5, -0.375, 0.75, 1.875, 3.0])
        assert data_uri(picture(test, wanted)) in html
        rows = torch.nonzero(test.labels[:, 0] > 0.5)[:PANEL_ROWS, 0].tolist()
        images = test.__getitems__(rows)["image"]
        wanted = sweep(method, images, 0, [3.0, 1.875, 0.75, -0.375, -1.5])
        assert data_uri(picture(test, wanted)) in html

    def test_images_with_and_without(self, data):
        test = data.splits().test
        for present in (True, False):
            rows = with_or_without(test, 2, 3, present=present)
            assert len(rows) == 3
            assert (test.labels[rows, 2] > 0.5).tolist() == [present] * 3

    def test_the_papers_attributes_come_first(self):
        names = ["Bald", "Mustache", "Blond_Hair", "Brown_Hair", "Young", "Eyeglasses"]
        assert chosen_attributes(names, 4) == [3, 5, 1, 0]
        assert combinations(names) == [(2, 5), (5, 1), (2, 5, 1)]
        assert combinations(["a", "b"]) == [(0, 1)]
        assert combinations(["a"]) == []

    def test_many_attributes_are_counted(self):
        torch.manual_seed(0)
        names = [f"attribute {k}" for k in range(15)]
        # The toy's encoder and decoder by hand: a linear method of 15 attributes.
        from tests.dcorr_models.toy import ToyDecoder, ToyEncoder

        method = toy_attribute_cdnet(
            num_labels=15, label_encoder=ToyEncoder(15), decoder=ToyDecoder(15)
        ).eval()
        test = ToyAttributes().splits().test
        labels = (torch.rand(48, 15) > 0.5).float()
        html = single_attributes(method, LabelledImages(test.images, labels), names)
        assert "3 more attributes are not shown" in html
        assert "attribute 11" in html
        assert "attribute 12" not in html


class TestMeasuresOfEdits:
    def test_nothing_measured_nothing_shown(self):
        for nothing in ({}, {"svm": None, "edits": None}, {"svm": {"attributes": {}}}):
            assert svm_charts(nothing) == ""
            assert effect_matrix(nothing) == ""

    def test_skipped_attributes_are_named(self):
        content = measured()
        content["svm"]["skipped"] = {"Bald": "no training image has it"}
        wanted = "Not measured: Bald: no training image has it."
        assert wanted in Page(svm_charts(content)).text
        nothing = {"skipped": content["svm"]["skipped"]}
        assert Page(svm_charts({"svm": nothing})).text.strip() == wanted
        assert Page(effect_matrix({"edits": nothing})).text.strip() == wanted

    def test_the_matrix_is_a_table_in_per_cent(self):
        content = measured()
        content["edits"]["matrix"][0][2] = None
        content["edits"]["values"] = [0.0, 1.0]
        page = Page(effect_matrix(content))
        assert "Eyeglasses 88 12 – Smiling 12 88 12 Mustache 12 12 88" in page.text
        assert "(1 is written where it was absent, 0 where it was there)" in page.text
        cells = page.named("td")
        assert [cell["style"] for cell in cells if "style" in cell].count("--share:0.8750") == 3
        assert {th["scope"] for th in page.named("th")} == {"row", "col"}


class TestLines:
    def test_higher_values_lie_higher_and_all_lie_inside(self):
        lines = [
            Line("a", [-1, 0, 2], [0.9, 0.5, 0.1], [0.2, 0.0, 0.3]),
            Line("b", [0, 4], [0.0, 1.0], style=1),
        ]
        page = Page(line_chart(lines, title="t"))
        _, _, width, height = map(float, page.named("svg")[0]["viewbox"].split())
        for shape in page.named("polyline") + page.named("polygon"):
            for point in shape["points"].split():
                x, y = map(float, point.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height
        falling, rising = (
            [float(point.split(",")[1]) for point in line["points"].split()]
            for line in page.named("polyline")
        )
        assert falling == sorted(falling)  # y grows downwards
        assert rising == sorted(rising, reverse=True)
        assert len(page.named("polygon")) == 1
        assert [line["class"] for line in page.named("polyline")] == ["series s0", "series s1"]

    def test_one_place(self):
        assert len(Page(line_chart([Line("a", [1.0], [0.5])], title="t")).named("circle")) == 1

    def test_every_style_has_a_colour_in_light_and_dark(self):
        sheet = style_sheet()
        for number in range(STYLES):
            assert sheet.count(f"--line-{number}:") == 2
            assert sheet.count(f"polyline.s{number} ") == 1
        assert "prefers-color-scheme: dark" in sheet

    def test_the_legend_repeats_after_the_last_style(self):
        page = Page(legend([f"run {k}" for k in range(STYLES + 1)]))
        kinds = [line["class"] for line in page.named("polyline")]
        assert kinds[0] == kinds[-1] == "series s0"
        assert f"run {STYLES}" in page.text

    def test_a_file_of_charts_is_whole_xml(self, tmp_path: Path):
        from xml.etree import ElementTree

        chart = line_chart([Line("a & b", [0, 1], [1, 0])], title="<t>")
        tree = ElementTree.fromstring(svg_file([("<t>", chart)] * 5, ["a & b", "c"]))
        words = [element.text for element in tree.iter() if element.tag.endswith("text")]
        assert words.count("<t>") == 5
        assert "a & b" in words
