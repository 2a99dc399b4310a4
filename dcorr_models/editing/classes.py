"""Case 1, exclusive classes: an image as another class, in its own style."""

from __future__ import annotations

import operator
from functools import partial

import torch
from torch import Tensor

from dcorr_models.editing.labels import check_classes
from dcorr_models.editing.passes import check_images, edits
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method

__all__ = ["edit_class", "style_transfer", "swap_class"]


def swap_class(label_codes: Tensor, target: int | Tensor) -> Tensor:
    """Exchange the target's entry with the largest one, as CDNet edits exclusive classes.

    All other entries stay, so that the code keeps its values and its sum. Where the target's entry
    is the largest already, nothing changes.

    Args:
        label_codes: (N, K), one row an image.
        target: the class, or one class an image: integers (N,), all in [0, K).

    Returns:
        (N, K), a new tensor.

    Raises:
        UserError: wrong shapes, a target that is no integer, or out of range.

    Reference:
        Song et al. 2020 (CDNet), section III-D, Case 1.

    Example:
        >>> swap_class(torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.5, 0.5]]), 2).tolist()
        [[0.25, 0.0, 0.75], [0.0, 0.5, 0.5]]
    """
    if label_codes.ndim != 2 or label_codes.shape[1] < 1:
        raise UserError(f"label_codes must have shape (N, K), got {tuple(label_codes.shape)}")
    targets = _targets(target, label_codes).unsqueeze(1)  # (N, 1)
    largest = label_codes.argmax(dim=1, keepdim=True)  # (N, 1)
    swapped = label_codes.scatter(1, largest, label_codes.gather(1, targets))
    return swapped.scatter(1, targets, label_codes.gather(1, largest))


def edit_class(method: Method, images: Tensor, target: int | Tensor) -> Tensor:
    """Each image as the target class, in its own style.

    Args:
        method: a trained method whose labels are exclusive classes. It works in eval mode without
            gradients; its training flags stay as they were.
        images: (N, C, H, W) of the method's image shape, in its value range.
        target: see `swap_class`.

    Returns:
        (N, C, H, W) on the images' device.

    Raises:
        UserError: a method of attributes or without label code, images of another shape, a target
            out of range.
    """
    check_classes(method)
    check_images(method, images)
    if isinstance(target, Tensor) and target.ndim > 0:
        if target.shape != (len(images),):
            raise UserError(
                f"target must be one class or have shape ({len(images)},), "
                f"got {tuple(target.shape)}"
            )
        each = target
        return edits(method, images, [lambda label, rows: swap_class(label, each[rows])])[:, 0]
    return edits(method, images, [lambda label, rows: swap_class(label, target)])[:, 0]


def style_transfer(method: Method, images: Tensor) -> Tensor:
    """Every class in every image's style: the rows of CDNet's Fig. 4 without their first column.

    Args:
        method: see `edit_class`.
        images: (N, C, H, W).

    Returns:
        (N, K, C, H, W) on the images' device; `[n, k]` is class k in the style of image n.

    Raises:
        UserError: a method of attributes or without label code, or images of another shape.
    """
    check_classes(method)
    check_images(method, images)
    return edits(method, images, [partial(_swap, target=k) for k in range(method.num_labels)])


def _swap(label_codes: Tensor, rows: slice, *, target: int) -> Tensor:
    return swap_class(label_codes, target)


def _targets(target: int | Tensor, label_codes: Tensor) -> Tensor:
    """(N,) int64 on the codes' device, checked."""
    count, classes = label_codes.shape
    if isinstance(target, Tensor) and target.ndim > 0:
        if target.shape != (count,):
            raise UserError(
                f"target must be one class or have shape ({count},), got {tuple(target.shape)}"
            )
        if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
            raise UserError(f"target must hold integers, got {target.dtype}")
        targets = target.to(label_codes.device, torch.int64)
    else:
        try:
            value = operator.index(target)
        except TypeError as error:
            raise UserError(f"target must be an integer, got {target!r}") from error
        targets = torch.full((count,), value, dtype=torch.int64, device=label_codes.device)
    outside = targets[(targets < 0) | (targets >= classes)]
    if len(outside):
        raise UserError(f"target must be a class from 0 to {classes - 1}, got {int(outside[0])}")
    return targets
