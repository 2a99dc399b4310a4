"""The same test images through every run: one row a run, as in CDNet's Figs. 3, 5, 6 and 8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from dcorr_models.data.base import DataSource, LabelledImages
from dcorr_models.editing import (
    default_intensities,
    edit_attributes,
    reconstruct,
    single_intensity,
    style_transfer,
    swap,
    sweep,
)
from dcorr_models.editing.swap import example_rows
from dcorr_models.editing.swap_files import EXAMPLES
from dcorr_models.experiment import load_run
from dcorr_models.methods.base import Method
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.pictures import data_uri, is_point, labelled_grid
from dcorr_models.report.attributes import (
    PANELS,
    chosen_attributes,
    combinations,
    removed_attribute,
    signed,
    with_or_without,
)
from dcorr_models.report.compare_rows import Row
from dcorr_models.report.generation import draw_rows, point_clouds
from dcorr_models.report.markup import text
from dcorr_models.report.pictures import CELL, MAX_CLASSES, picture
from dcorr_models.report.traversals import draw_latent

__all__ = ["Drawn", "Figure", "draw_figures", "figure_html", "figure_picture"]

DRAWN_CLASSES = 5
COLUMNS = 10  # reconstructions, and attributes beside each other
SUBJECTS = 2  # images that are edited in every way


class Figure(NamedTuple):
    """Images in rows, one a run."""

    stem: str  # of a file that holds it
    title: str
    caption: str
    names: list[str]  # before the rows
    heads: list[str]  # above the columns
    images: Tensor  # (rows, columns, C, H, W)
    gap_after: int = 0


class Sheet(NamedTuple):
    """A figure to be drawn: what stands around it, and what each method contributes."""

    stem: str
    title: str
    caption: str
    heads: list[str]
    gap_after: int
    draw: Callable[[Method], Tensor]  # a row: (columns, C, H, W)
    fits: Callable[[Method], bool]  # whether a method can draw it
    top: tuple[str, Tensor] | None = None  # a row of its own above the methods'


class Drawn(NamedTuple):
    """What a comparison shows."""

    figures: list[Figure]
    test: LabelledImages
    data_name: str
    label_names: list[str]
    points: dict[str, list[Tensor]]  # where images are points: the real ones, and those of each row


def draw_figures(rows: Sequence[Row]) -> Drawn:
    """All pictures of a comparison; the first run of each row is shown.

    One method is in memory at a time. A method appears in the pictures that it can draw: without a
    label code these are reconstructions, with class vectors also swaps, without an encoder samples
    alone. Of points there is a chart for each method, and no picture.

    Raises:
        UserError: a run whose files do not fit each other.
    """
    sheets: list[Sheet] = []
    drawn: list[list[tuple[str, Tensor]]] = []
    ranges: dict[str, str] = {}
    points: dict[str, list[Tensor]] = {}
    data: DataSource | None = None
    for row in rows:
        _, method, own_data = load_run(row.first.folder.path)
        if data is None:
            data, test = own_data, own_data.evaluation_splits().test
            sheets = _sheets(test, list(data.label_names), multilabel=method.multilabel)
            drawn = [[sheet.top] if sheet.top else [] for sheet in sheets]
        if isinstance(method, ClassConditional) and is_point(method.image_shape):
            points["real"], points[row.name] = point_clouds(method, test)
        if _writes(method):
            low, high = method.intensities
            ranges[row.first.method] = f"{row.first.method} {signed(low)} to {signed(high)}"
        for sheet, lines in zip(sheets, drawn, strict=True):
            if sheet.fits(method):
                lines.append((row.name, sheet.draw(method)))
    assert data is not None, "there is no comparison without rows"
    figures = []
    for sheet, lines in zip(sheets, drawn, strict=True):
        if len(lines) > bool(sheet.top):
            names, images = [name for name, _ in lines], torch.stack([row for _, row in lines])
            caption = sheet.caption.replace("{ranges}", "; ".join(ranges.values()))
            figures.append(
                Figure(
                    sheet.stem, sheet.title, caption, names, sheet.heads, images, sheet.gap_after
                )
            )
    return Drawn(figures, test, data.name, list(data.label_names), points)


def figure_html(figure: Figure, test: LabelledImages) -> str:
    """A figure of the page: names, words above the columns, one picture."""
    whole = picture(test, figure.images)
    columns = figure.images.shape[1]
    upright = max((len(head) for head in figure.heads), default=0) > 8
    heads = "".join(f"<span>{text(head)}</span>" for head in figure.heads)
    names = "".join(f"<span>{text(name)}</span>" for name in figure.names)
    alt = f"{figure.title}. Rows: {', '.join(figure.names)}."
    if figure.heads:
        alt += f" Columns: {', '.join(figure.heads)}."
    return (
        f'<figure><div class="compared" style="grid-template-columns:minmax(5rem,14rem) '
        f'minmax(0,{whole.width}px)"><span></span>'
        f'<div class="heads{" upright" if upright else ""}" '
        f'style="grid-template-columns:repeat({columns},1fr)">{heads}</div>'
        f'<div class="names">{names}</div><img src="{data_uri(whole)}" alt="{text(alt)}"></div>'
        f"<figcaption>{text(figure.caption)}</figcaption></figure>"
    )


def figure_picture(figure: Figure, test: LabelledImages) -> Image.Image:
    """The same as a picture of its own, with its words in it."""
    return labelled_grid(
        figure.images,
        heads=figure.heads,
        names=figure.names,
        value_range=test.value_range,
        scale=max(1, CELL // figure.images.shape[-2]),
        gap_after=figure.gap_after,
    )


def _sheets(test: LabelledImages, names: Sequence[str], *, multilabel: bool) -> list[Sheet]:
    if len(test) == 0 or is_point(test.images.shape):
        return []
    images, _ = test.tensors(COLUMNS)
    sheets = [
        Sheet(
            "reconstructions",
            "Reconstructions",
            f"The first {len(images)} test images, and what each model makes of them.",
            [],
            0,
            lambda method: reconstruct(method, images),
            lambda method: method.has_encoder,
            top=("original", images),
        )
    ]
    if multilabel:
        sheets += _attribute_sheets(test, names) + _intensity_sheets(test, names)
    else:
        sheets += _class_sheets(test, names)
        sheets += _sample_sheets(test, names)
    return sheets + _latent_sheets() + _swap_sheets(test, names)


def _latent_sheets() -> list[Sheet]:
    """Images drawn from latent numbers."""

    def draw(method: Method) -> Tensor:
        assert isinstance(method, LatentVariable), "only such methods draw"
        return draw_latent(method, COLUMNS)

    return [
        Sheet(
            "samples",
            "Drawn images",
            "The first images that each model draws from the priors of its numbers, from seed 0.",
            [],
            0,
            draw,
            lambda method: isinstance(method, LatentVariable),
        )
    ]


def _sample_sheets(test: LabelledImages, names: Sequence[str]) -> list[Sheet]:
    """Lr-LiVAE's Fig. 3: images drawn of some classes, below real ones."""
    known, sheets = torch.unique(test.labels).tolist(), []
    count = min(DRAWN_CLASSES, len(known))
    for label in (known[k * len(known) // count] for k in range(count)):
        real = test.__getitems__((test.labels == label).nonzero()[:COLUMNS, 0].tolist())["image"]

        def draw(method: Method, label: int = label, columns: int = len(real)) -> Tensor:
            assert isinstance(method, ClassConditional), "only such methods draw"
            return draw_rows(method, [label], columns)[0]

        def fits(method: Method, label: int = label) -> bool:
            return isinstance(method, ClassConditional) and label in method.known_classes().tolist()

        sheets.append(
            Sheet(
                f"samples_{names[label]}",
                f"Drawn images of class {names[label]}",
                "First row: the first test images of the class. Below them the first images that "
                "each model draws of it, from seed 0.",
                [],
                0,
                draw,
                fits,
                top=("real", real),
            )
        )
    return sheets


def _class_sheets(test: LabelledImages, names: Sequence[str]) -> list[Sheet]:
    """Every class in the style of the first image of each of the first classes."""
    known, sheets = test.labels.tolist(), []
    for label in [k for k in range(len(names)) if k in known][: SUBJECTS + 1]:
        image = test.__getitems__([known.index(label)])["image"]

        def draw(method: Method, image: Tensor = image) -> Tensor:
            edited = style_transfer(method, image)[0, :MAX_CLASSES]
            return torch.cat([image, reconstruct(method, image), edited])

        sheets.append(
            Sheet(
                f"classes_{names[label]}",
                f"Every class in the style of test image {known.index(label)} ({names[label]})",
                "The original, its reconstruction, and the image edited to each class.",
                ["original", "rebuilt", *names[:MAX_CLASSES]],
                2,
                draw,
                _writes,
            )
        )
    return sheets


def _attribute_sheets(test: LabelledImages, names: Sequence[str]) -> list[Sheet]:
    """CDNet's Figs. 5 and 8 (b): attributes alone and together."""
    singles, groups = chosen_attributes(names, COLUMNS), combinations(names)
    heads = [_words(names[k]) for k in singles]
    heads += [" + ".join(_words(names[k]) for k in group) for group in groups]
    sheets = []
    for subject in range(min(SUBJECTS, len(test))):
        image = test.__getitems__([subject])["image"]

        def draw(method: Method, image: Tensor = image) -> Tensor:
            value = single_intensity(method)
            edits = [dict.fromkeys(group, value) for group in [*((k,) for k in singles), *groups]]
            edited = [edit_attributes(method, image, edit) for edit in edits]
            return torch.cat([image, reconstruct(method, image), *edited])

        sheets.append(
            Sheet(
                f"attributes_{subject}",
                f"Attributes of test image {subject}",
                "The original, its reconstruction, and edits of one attribute or of several, each "
                "at the fourth of the five intensities of the model's range ({ranges}).",
                ["original", "rebuilt", *heads],
                2,
                draw,
                _writes,
            )
        )
    return sheets


def _intensity_sheets(test: LabelledImages, names: Sequence[str]) -> list[Sheet]:
    """CDNet's Fig. 6: an attribute from weak to strong, on the first image without it."""
    columns = chosen_attributes(names, PANELS - 1)
    edits = [(column, False) for column in columns] + [(removed_attribute(names, columns), True)]
    sheets = []
    for column, removed in edits:
        rows = with_or_without(test, column, 1, present=removed)
        if not rows:
            continue
        image = test.__getitems__(rows)["image"]

        def draw(
            method: Method, image: Tensor = image, column: int = column, removed: bool = removed
        ) -> Tensor:
            steps = default_intensities(method)
            edited = sweep(method, image, column, steps[::-1] if removed else steps)[0]
            return torch.cat([image, reconstruct(method, image), edited])

        word = "without" if removed else "with"
        sheets.append(
            Sheet(
                f"intensities_{'without_' if removed else ''}{names[column]}",
                ("Without " if removed else "") + _words(names[column]),
                f"Test image {rows[0]}, its reconstruction, and edits at five values over the "
                f"model's range ({{ranges}}), to the right more clearly {word} the attribute.",
                ["original", "rebuilt", "weak", "·", "·", "·", "strong"],
                2,
                draw,
                _writes,
            )
        )
    return sheets


def _swap_sheets(test: LabelledImages, names: Sequence[str]) -> list[Sheet]:
    """LORD's Figs. 2 and 3: the class of one test image with the contents of several."""
    rows, sheets = example_rows(test, EXAMPLES), []
    images = test.__getitems__(rows)["image"]
    for number, row in enumerate(rows[:SUBJECTS]):
        one = images[number : number + 1]

        def draw(method: Method, one: Tensor = one) -> Tensor:
            return torch.cat([reconstruct(method, one), swap(method, one, images)[0]])

        name = f" ({names[int(test.labels[row])]})" if test.labels.ndim == 1 else ""
        sheets.append(
            Sheet(
                f"swaps_{number}",
                f"The class of test image {row}{name} with other contents",
                "First row: the image that gives the class, and those that give the content. Below "
                "them: its reconstruction, and its class with each of the contents.",
                ["class", *["content"] * len(rows)],
                1,
                draw,
                lambda method: method.has_encoder and method.has_class_vectors,
                top=("original", torch.cat([one, images])),
            )
        )
    return sheets


def _writes(method: Method) -> bool:
    """Whether an edit writes into the label code."""
    return method.has_encoder and method.has_label_code and not method.has_class_vectors


def _words(name: str) -> str:
    return name.replace("_", " ")
