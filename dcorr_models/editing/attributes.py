"""Case 2, attributes: a real value, also far outside [0, 1], written into the label code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from dcorr_models.editing.labels import attribute_column, check_attributes
from dcorr_models.editing.passes import check_images, edits
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method

__all__ = [
    "default_intensities",
    "edit_attributes",
    "set_attributes",
    "single_intensity",
    "sweep",
]

# Three forms, because a mapping's keys may not be of a narrower type than asked for.
Values = (
    Mapping[str, float | Tensor] | Mapping[int, float | Tensor] | Mapping[str | int, float | Tensor]
)


def set_attributes(label_codes: Tensor, values: Mapping[int, float | Tensor]) -> Tensor:
    """Write values into columns of the label code; all other columns stay.

    Args:
        label_codes: (N, K), one row an image.
        values: by column, from 0 to K - 1: one finite value for all images, or one an image (N,).

    Returns:
        (N, K), a new tensor.

    Raises:
        UserError: wrong shapes, a column out of range, a value that is no finite number.

    Reference:
        Song et al. 2020 (CDNet), section III-D, Case 2.

    Example:
        >>> set_attributes(torch.tensor([[0.2, 0.9], [0.1, 0.3]]), {1: 3.0}).round(decimals=2)
        tensor([[0.2000, 3.0000],
                [0.1000, 3.0000]])
    """
    if label_codes.ndim != 2 or label_codes.shape[1] < 1:
        raise UserError(f"label_codes must have shape (N, K), got {tuple(label_codes.shape)}")
    count, columns = label_codes.shape
    written = label_codes.clone()
    for column, value in values.items():
        if not 0 <= column < columns:
            raise UserError(f"columns are numbered from 0 to {columns - 1}, got {column}")
        checked = _value(value, count, name=str(column))
        written[:, column] = checked.to(written) if isinstance(checked, Tensor) else checked
    return written


def edit_attributes(method: Method, images: Tensor, values: Values) -> Tensor:
    """Each image with one or several attributes set to a value, and all else its own.

    Args:
        method: a trained method of attributes. It works in eval mode without gradients; its
            training flags stay as they were.
        images: (N, C, H, W) of the method's image shape, in its value range.
        values: by name of the attribute or number of its column, the intensity: 0 is "without"
            and 1 "with" for most methods, and values beyond make it weaker or stronger.
            `method.intensities` is the range that shows something. A number for all images, or
            a tensor (N,) with one an image.

    Returns:
        (N, C, H, W) on the images' device.

    Raises:
        UserError: a method of exclusive classes or without label code; an unknown attribute (the
            nearest is offered), one named twice, or none; a value that is no finite number; images
            of another shape.
    """
    check_attributes(method)
    check_images(method, images)
    columns = _columns(method, values, len(images))

    def write(label_codes: Tensor, rows: slice) -> Tensor:
        part = {k: v[rows] if isinstance(v, Tensor) else v for k, v in columns.items()}
        return set_attributes(label_codes, part)

    return edits(method, images, [write])[:, 0]


def sweep(
    method: Method,
    images: Tensor,
    attribute: str | int,
    intensities: Sequence[float] | None = None,
) -> Tensor:
    """Each image with one attribute at several intensities: the rows of CDNet's Fig. 6.

    Args:
        method: see `edit_attributes`.
        images: (N, C, H, W).
        attribute: its name, or the number of its column.
        intensities: T finite values; `default_intensities(method)` if left out.

    Returns:
        (N, T, C, H, W) on the images' device; `[n, t]` is image n at intensity t.

    Raises:
        UserError: see `edit_attributes`; no intensities.
    """
    check_attributes(method)
    check_images(method, images)
    column = attribute_column(method, attribute)
    steps = default_intensities(method) if intensities is None else list(intensities)
    if not steps:
        raise UserError(f"no intensities for {attribute!r}: give at least one number")
    for step in steps:
        if isinstance(_value(step, len(images), name=str(attribute)), Tensor):
            raise UserError(f"an intensity of a sweep is one number for all images, got {step!r}")
    return edits(method, images, [partial(_set, values={column: step}) for step in steps])


def default_intensities(method: Method, count: int = 5) -> list[float]:
    """`count` values from the weakest to the strongest of `method.intensities`, evenly spaced.

    Args:
        method: any method.
        count: 2 or more; the panels of CDNet's Fig. 6 have 5, the curves of its Fig. 7 have 10.

    Raises:
        UserError: `count` under 2.
    """
    if count < 2:
        raise UserError(f"count must be 2 or more, got {count}")
    low, high = method.intensities
    return [low + (high - low) * step / (count - 1) for step in range(count)]


def single_intensity(method: Method) -> float:
    """The value at which single attributes are shown: the fourth of the five intensities."""
    return default_intensities(method)[3]


def _set(label_codes: Tensor, rows: slice, *, values: Mapping[int, float]) -> Tensor:
    return set_attributes(label_codes, values)


def _columns(method: Method, values: Values, count: int) -> dict[int, float | Tensor]:
    """The same by column, checked."""
    if not values:
        raise UserError("nothing to edit: name at least one attribute and its value")
    columns: dict[int, float | Tensor] = {}
    for attribute, value in values.items():
        column = attribute_column(method, attribute)
        if column in columns:
            raise UserError(f"attribute {attribute!r} is set twice: column {column} has one value")
        columns[column] = _value(value, count, name=str(attribute))
    return columns


def _value(value: float | Tensor, count: int, *, name: str) -> float | Tensor:
    """One finite number, or one an image."""
    if isinstance(value, Tensor) and value.ndim > 0:
        if value.shape != (count,):
            raise UserError(
                f"the value of {name} must be one number or have shape ({count},), "
                f"got {tuple(value.shape)}"
            )
        if value.is_complex() or not bool(torch.isfinite(value.to(torch.float32)).all()):
            raise UserError(f"the values of {name} must be finite numbers")
        return value
    try:
        # float() takes more than numbers: words, and yes for 1.
        number = math.nan if isinstance(value, (str, bytes, bool)) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"the value of {name} must be a number, got {value!r}") from error
    # Label codes are single precision: 1e39 would become infinite there.
    if not abs(number) <= torch.finfo(torch.float32).max:
        raise UserError(f"the value of {name} must be a finite number, got {value!r}")
    return number
