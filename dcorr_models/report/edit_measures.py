"""Measurements of edited attributes: error curves of linear SVMs, and a matrix of effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dcorr_models.report.lines import Line, legend, line_chart
from dcorr_models.report.markup import share, text

__all__ = ["curve", "effect_matrix", "svm_charts", "svm_panels"]

Evaluation = Mapping[str, Any]


def curve(evaluation: Evaluation, attribute: str, *, name: str) -> Line | None:
    """The error curve of one attribute; None where it was not measured."""
    svm = evaluation.get("svm") or {}
    found = svm.get("attributes", {}).get(attribute)
    if found is None:
        return None
    return Line(name, svm["intensities"], found["error"], found.get("std") or ())


def svm_charts(evaluation: Evaluation) -> str:
    """CDNet's Fig. 7 for one run: a chart an attribute; empty where nothing was measured."""
    svm = evaluation.get("svm") or {}
    panels = []
    for name, found in svm.get("attributes", {}).items():
        line = curve(evaluation, name, name="error")
        if line is None:
            continue
        accuracy = found.get("accuracy")
        note = f"SVMs right in {share(accuracy)}" if accuracy is not None else ""
        panels.append((name, note, [line]))
    if not panels:
        return _left_out(svm)
    return (
        "<p>Linear support vector machines learn from real training images whether an attribute is "
        "there. Then every test image without it is edited to have it, at intensities from weak to "
        "strong. The error is the share that is still taken for images without: lower is better. "
        "The band is one standard deviation over the machines of an attribute; how often they are "
        "right on real test images stands beside its name.</p>"
        + svm_panels(panels, [])
        + _left_out(svm)
    )


def svm_panels(panels: Sequence[tuple[str, str, Sequence[Line]]], names: Sequence[str]) -> str:
    """Charts with titles and notes; above them a legend where there are several lines."""
    figures = "".join(
        f"<figure><figcaption>{text(title.replace('_', ' '))}<span>{text(note)}</span></figcaption>"
        f"{line_chart(lines, title=f'{title}, error against intensity')}</figure>"
        for title, note, lines in panels
    )
    return (legend(names) if names else "") + f'<div class="panels">{figures}</div>'


def effect_matrix(evaluation: Evaluation) -> str:
    """What an edit changes, attribute by attribute, as a table whose cells are tinted."""
    edits = evaluation.get("edits") or {}
    names, matrix = edits.get("names"), edits.get("matrix")
    if not names or not matrix:
        return _left_out(edits)
    head = "".join(f'<th scope="col"><span>{text(_words(name))}</span></th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{text(_words(name))}</th>{"".join(map(_cell, row))}</tr>'
        for name, row in zip(names, matrix, strict=True)
    )
    return (
        "<p>A classifier that has seen real training images alone judges every test image before "
        f"and after an edit of one attribute to its opposite{_values(edits)}. A row is the "
        "attribute that was edited; a column the attribute whose prediction changed, in per cent "
        "of the images, against the unedited reconstruction. A perfect edit has 100 on the "
        "diagonal and 0 elsewhere.</p>"
        '<div class="scroll" role="region" tabindex="0" aria-label="Effects of edits">'
        f'<table class="heat"><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>" + _left_out(edits)
    )


def _left_out(group: Evaluation) -> str:
    """Attributes that could not be measured, each with its reason."""
    skipped = group.get("skipped") or {}
    reasons = "; ".join(f"{text(name)}: {text(why)}" for name, why in skipped.items())
    return f'<p class="soft">Not measured: {reasons}.</p>' if reasons else ""


def _values(edits: Evaluation) -> str:
    """What was written into the label code, where the evaluation says so."""
    values = edits.get("values")
    if not values:
        return ""
    return f" ({values[1]:g} is written where it was absent, {values[0]:g} where it was there)"


def _cell(value: float | None) -> str:
    if value is None:
        return "<td>–</td>"
    return f'<td style="--share:{value:.4f}">{100 * value:.0f}</td>'


def _words(name: str) -> str:
    return name.replace("_", " ")
