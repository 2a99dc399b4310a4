"""The pictures of a method of attributes: each alone, several together, at all intensities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages
from dcorr_models.editing import (
    default_intensities,
    edit_attributes,
    reconstruct,
    single_intensity,
    sweep,
)
from dcorr_models.methods.base import Method
from dcorr_models.report.markup import text
from dcorr_models.report.pictures import Block, beside, picture

__all__ = [
    "chosen_attributes",
    "combinations",
    "intensity_panels",
    "removed_attribute",
    "signed",
    "single_attributes",
    "with_or_without",
]

# The attributes of CDNet's Fig. 6 and of the last columns of its Fig. 5, where the data have them.
SHOWN_FIRST = ("Brown_Hair", "Pale_Skin", "Eyeglasses", "Smiling", "Mustache")
COMBINED = ("Blond_Hair", "Eyeglasses", "Mustache")
MAX_SINGLE = 12  # columns of single attributes
PANELS = 6  # the last takes an attribute away
ROWS, PANEL_ROWS = 5, 3  # a page of faces stays at a few megabytes


def single_attributes(method: Method, test: LabelledImages, names: Sequence[str]) -> str:
    """CDNet's Fig. 5: original, reconstruction, each attribute alone, some together."""
    if not _applies(method, test):
        return ""
    images, _ = test.tensors(ROWS)
    value = single_intensity(method)
    columns = chosen_attributes(names, MAX_SINGLE)
    alone = torch.cat([sweep(method, images, column, [value]) for column in columns], dim=1)
    heads = [names[column] for column in columns]
    blocks = [
        _originals(method, test, images, f"{len(images)} test images"),
        Block(
            picture(test, alone),
            [_words(head) for head in heads],
            f"The same images with one attribute at {signed(value)}, by column: {', '.join(heads)}",
        ),
    ]
    groups = combinations(names)
    if groups:
        together = [
            edit_attributes(method, images, dict.fromkeys(group, value)) for group in groups
        ]
        heads = [" + ".join(_words(names[column]) for column in group) for group in groups]
        blocks.append(
            Block(
                picture(test, torch.stack(together, dim=1)),
                heads,
                f"Several attributes at {signed(value)} together, by column: {', '.join(heads)}",
            )
        )
    left_out = len(names) - len(columns)
    more = f" {left_out} more attributes are not shown." if left_out else ""
    return (
        f"<figure>{beside(blocks, upright=True)}<figcaption>The first {len(images)} test images, "
        "their reconstructions, and the same images with "
        f"{signed(value)} written into the label code for one attribute, or for several; all else "
        f"in both codes stays.{more}</figcaption></figure>"
    )


def intensity_panels(method: Method, test: LabelledImages, names: Sequence[str]) -> str:
    """CDNet's Fig. 6: a panel an attribute, five intensities from weak to strong."""
    if not _applies(method, test):
        return ""
    columns = chosen_attributes(names, PANELS - 1)
    removed = removed_attribute(names, columns)
    panels = [(column, False) for column in columns] + [(removed, True)]
    figures = "".join(_panel(method, test, names, *panel) for panel in panels)
    if not figures:
        return ""
    low, high = method.intensities
    return (
        f'<div class="panels wide">{figures}</div><p class="soft">Each row is a test image: the '
        "first ones without the attribute (with it, where it is taken away), their reconstruction, "
        f"and five values of the attribute in the label code, from {signed(low)} to {signed(high)}"
        ".</p>"
    )


def chosen_attributes(names: Sequence[str], count: int) -> list[int]:
    """Columns to show: the papers' attributes first, then the others in their order.

    Example:
        >>> chosen_attributes(["Beard", "Hat", "Smiling"], 2)
        [2, 0]
    """
    first = [list(names).index(name) for name in SHOWN_FIRST if name in names]
    return [*first, *(k for k in range(len(names)) if k not in first)][:count]


def combinations(names: Sequence[str]) -> list[tuple[int, ...]]:
    """Columns to edit together: two pairs and all of three attributes; one pair where only two are.

    Example:
        >>> combinations(["Beard", "Hat", "Smiling"])
        [(2, 0), (0, 1), (2, 0, 1)]
    """
    first = [list(names).index(name) for name in COMBINED if name in names]
    others = [k for k in chosen_attributes(names, len(names)) if k not in first]
    columns = [*first, *others][:3]
    if len(columns) < 3:
        return [tuple(columns)] if len(columns) == 2 else []
    return [(columns[0], columns[1]), (columns[1], columns[2]), tuple(columns)]


def with_or_without(test: LabelledImages, column: int, count: int, *, present: bool) -> list[int]:
    """The first test images that have an attribute, or lack it."""
    wanted = (test.labels[:, column] > 0.5) == present
    return torch.nonzero(wanted)[:count, 0].tolist()


def signed(value: float) -> str:
    """A number with a real minus sign."""
    return f"{value:g}".replace("-", "\u2212")


def _panel(
    method: Method, test: LabelledImages, names: Sequence[str], column: int, removed: bool
) -> str:
    rows = with_or_without(test, column, PANEL_ROWS, present=removed)
    if not rows:
        return ""
    images = test.__getitems__(rows)["image"]
    steps = default_intensities(method)
    # Taken away: the stronger edit is the lower value.
    steps = steps[::-1] if removed else steps
    title = f"without {_words(names[column])}" if removed else _words(names[column])
    state = "with" if removed else "without"
    made = Block(
        picture(test, sweep(method, images, column, steps)),
        [signed(step) for step in steps],
        f"{names[column]} at {', '.join(signed(step) for step in steps)}, by column",
    )
    real = _originals(method, test, images, f"{len(rows)} test images {state} {names[column]}")
    return f"<figure><figcaption>{text(title)}</figcaption>{beside([real, made])}</figure>"


def _originals(method: Method, test: LabelledImages, images: Tensor, what: str) -> Block:
    pairs = torch.stack([images, reconstruct(method, images)], dim=1)
    return Block(
        picture(test, pairs), ["original", "rebuilt"], f"{what}, each beside its reconstruction"
    )


def removed_attribute(names: Sequence[str], columns: Sequence[int]) -> int:
    """The attribute that a panel takes away: the paper's, or the first one shown."""
    return list(names).index("Eyeglasses") if "Eyeglasses" in names else columns[0]


def _applies(method: Method, test: LabelledImages) -> bool:
    edited = method.multilabel and method.has_label_code and not method.has_class_vectors
    return edited and len(test) > 0


def _words(name: str) -> str:
    return name.replace("_", " ")
