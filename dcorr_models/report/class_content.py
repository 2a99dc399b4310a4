"""What the report shows of class and content codes: swaps, translations, leakage, collapse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dcorr_models.data.base import LabelledImages, Splits, known_classes
from dcorr_models.editing import class_codes, swap, translate
from dcorr_models.editing.swap import IMAGES_A_CLASS, example_rows
from dcorr_models.editing.swap_files import EXAMPLES, swap_rows
from dcorr_models.methods.base import Method
from dcorr_models.pictures import data_uri
from dcorr_models.report.contents import look_up
from dcorr_models.report.curves import Curve, curves_of
from dcorr_models.report.lines import Line, legend, line_chart
from dcorr_models.report.markup import number, text
from dcorr_models.report.pictures import Block, beside, picture
from dcorr_models.report.scatter import scatter_chart

__all__ = [
    "LEAKAGE",
    "collapse_chart",
    "compared_leakage",
    "leakage_curves",
    "shown_classes",
    "swap_grid",
    "translation_grid",
]

LEAKAGE = "leakage/"
"""How the names of logged shares begin that say what one code tells of the other."""
MAX_CLASSES = 12  # columns of the translation grid


def swap_grid(method: Method, test: LabelledImages, label_names: Sequence[str]) -> str:
    """LORD's Figs. 2 and 3: the class of one test image with the content of another."""
    if not method.has_class_vectors or not len(test):
        return ""
    rows = example_rows(test, EXAMPLES)
    images = test.__getitems__(rows)["image"]
    whole = picture(
        test, swap_rows(images, images, swap(method, images, images)), gap_after=1, gap_below=1
    )
    names = _class_names(test, rows, label_names)
    alt = f"Pairs of {len(rows)} test images{names}: class from the left, content from above"
    return (
        f'<figure><img src="{data_uri(whole)}" alt="{text(alt)}" '
        f'style="max-width:{whole.width}px"><figcaption>{len(rows)} test images{text(names)}, in '
        "the first column and again in the first row. Each other image has the class of the image "
        "on its left and the content of the image above; on the diagonal both are of one image. "
        "Of the classes in the test split every so many-th is shown, evenly over all; nothing was "
        "chosen by looks.</figcaption></figure>"
    )


def translation_grid(method: Method, splits: Splits, label_names: Sequence[str]) -> str:
    """Each test image as each class: domain translation, where a class is a domain."""
    test = splits.test
    if not method.has_class_vectors or not len(test) or test.labels.ndim > 1:
        return ""
    classes = shown_classes(splits.train)
    rows = example_rows(test, EXAMPLES)
    images = test.__getitems__(rows)["image"]
    codes = class_codes(method, splits.train, classes)
    names = [label_names[k] for k in classes]
    real = Block(
        picture(test, images[:, None]),
        ["real"],
        f"Test images, one a row{_class_names(test, rows, label_names)}",
    )
    made = Block(
        picture(test, translate(method, images, codes)),
        names,
        f"The same images as each class, by column: {', '.join(names)}",
    )
    count = len(known_classes(splits.train.labels))
    which = f"{len(classes)} of the {count} classes" if len(classes) < count else "each class"
    columns = beside([real, made], upright=max(map(len, names)) > 6)
    return (
        f"<figure>{columns}<figcaption>Test images whose class code is replaced by that of {which} "
        "of the training split. It is the vector that the method has learned of the class, or, "
        f"where it has none, the mean over {IMAGES_A_CLASS} training images.</figcaption></figure>"
    )


def collapse_chart(evaluation: Mapping[str, Any] | None) -> str:
    """LORD's Fig. 8: of each dimension of the content code the mean |μ| and the mean σ."""
    collapse = look_up(evaluation or {}, "collapse")
    if not collapse or not collapse.get("std"):
        return ""
    latent = (evaluation or {}).get("kind") == "latent"
    code, images = ("code", "images") if latent else ("content code", "test images")
    dimensions = list(range(1, len(collapse["std"]) + 1))
    charts = [
        scatter_chart(dimensions, collapse["absolute_mean"], reference=0.0, title="mean |μ|"),
        scatter_chart(dimensions, collapse["std"], reference=1.0, title="mean σ"),
    ]
    figures = "".join(
        f"<figure><figcaption>{title}</figcaption>{chart}</figure>"
        for title, chart in zip(
            ("Mean absolute mean, by dimension", "Mean standard deviation, by dimension"),
            charts,
            strict=True,
        )
    )
    return (
        f"<p>{number(collapse['at_prior'])} of {number(collapse['dimensions'])} dimensions of the "
        f"{code} are at the prior, the standard normal distribution, and tell nothing of an "
        f"image: a mean absolute mean of at most {collapse['tolerance']:g} and a mean standard "
        f"deviation within {collapse['tolerance']:g} of 1, over {number(collapse['samples'])} "
        f'{images}. The lines are where the prior lies.</p><div class="panels">{figures}</div>'
    )


def leakage_curves(log: Iterable[Mapping[str, Any]]) -> str:
    """LORD's Fig. 7: what was read from one code of the other's, while the training went on."""
    figures, names = [], []
    for stage, curves in curves_of(log).items():
        shown = [curve for curve in curves if curve.name.startswith(LEAKAGE)]
        if not shown:
            continue
        names += [curve.name for curve in shown if curve.name not in names]
        lines = [_line(curve, names.index(curve.name)) for curve in shown]
        chart = line_chart(lines, title=f"Leakage during {stage}")
        figures.append(f"<figure><figcaption>{text(stage)}</figcaption>{chart}</figure>")
    if not figures:
        return ""
    return (
        "<p>What a probe reads, asked again and again during the training, against the number of "
        "updates: lower is better. It is a quick probe, not the one of the measurements; compare "
        "its numbers with each other alone.</p>"
        + legend([_leakage_words(name) for name in names])
        + f'<div class="panels">{"".join(figures)}</div>'
    )


def compared_leakage(logs: Mapping[str, Iterable[Mapping[str, Any]]]) -> dict[str, list[Line]]:
    """Fig. 7 for several models: by what was read, a line a model that logged it.

    Args:
        logs: the log of each model, by its name.
    """
    lines: dict[str, list[Line]] = {}
    for style, (model, log) in enumerate(logs.items()):
        for curves in curves_of(log).values():
            for curve in curves:
                if curve.name.startswith(LEAKAGE):
                    line = Line(model, curve.steps, curve.values, style=style)
                    lines.setdefault(_leakage_words(curve.name), []).append(line)
    return lines


def shown_classes(train: LabelledImages) -> list[int]:
    """Classes that images are translated to: evenly over those of the training split."""
    known = known_classes(train.labels)
    count = min(MAX_CLASSES, len(known))
    return [known[k * len(known) // count] for k in range(count)]


def _line(curve: Curve, style: int) -> Line:
    return Line(_leakage_words(curve.name), curve.steps, curve.values, style=style)


def _leakage_words(name: str) -> str:
    """`leakage/class_from_content` as "class from content"."""
    return name.removeprefix(LEAKAGE).replace("_", " ")


def _class_names(test: LabelledImages, rows: Sequence[int], label_names: Sequence[str]) -> str:
    if test.labels.ndim > 1:
        return ""
    return f" ({', '.join(label_names[int(test.labels[row])] for row in rows)})"
