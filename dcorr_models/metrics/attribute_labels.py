"""Labels of attributes, as the metrics of attributes need them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

__all__ = ["balanced_accuracy", "check_attribute_labels", "check_columns", "single_class"]


def single_class(labels: Tensor, where: str) -> str | None:
    """Why nothing can be learned of an attribute: a sentence's second half, or None.

    Args:
        labels: Shape (N,), one attribute of each image, 0 or 1.
        where: What the images are called in the sentence.

    Example:
        >>> import torch
        >>> single_class(torch.zeros(5), "training images")
        'none of the 5 training images has it'
        >>> single_class(torch.ones(5), "test images"), single_class(torch.tensor([0, 1]), "images")
        ('all of the 5 test images have it', None)
    """
    present = int((labels > 0.5).sum())
    if present == 0:
        return f"none of the {len(labels)} {where} has it"
    if present == len(labels):
        return f"all of the {len(labels)} {where} have it"
    return None


def balanced_accuracy(predicted: Tensor, actual: Tensor) -> list[float | None]:
    """The mean of the accuracies among images with and without the attribute; chance is 0.5.

    Args:
        predicted: Boolean (N, A).
        actual: Boolean (N, A).

    Returns:
        A number an attribute; None where the images all have it, or none of them.

    Example:
        >>> import torch
        >>> actual = torch.tensor([[True], [False], [False], [False]])
        >>> balanced_accuracy(torch.zeros(4, 1, dtype=torch.bool), actual)
        [0.5]
    """
    result: list[float | None] = []
    for guess, truth in zip(predicted.T, actual.T, strict=True):
        if single_class(truth, "images"):
            result.append(None)
        else:
            hits = (guess[truth].double().mean() + (~guess[~truth]).double().mean()) / 2
            result.append(hits.item())
    return result


def check_attribute_labels(name: str, labels: Tensor, count: int | None = None) -> None:
    """Attributes (N, A) of 0 and 1 as floats; `count` is the N that they have to have.

    Raises:
        TypeError: If they are not floating point.
        ValueError: If the shape is another, or a label is neither 0 nor 1.
    """
    if not labels.is_floating_point():
        raise TypeError(f"{name} need attributes as floating point, got {labels.dtype}")
    if labels.ndim != 2 or 0 in labels.shape or (count is not None and len(labels) != count):
        rows = "N" if count is None else count
        raise ValueError(f"{name} must have shape ({rows}, A), got {tuple(labels.shape)}")
    wrong = labels[(labels != 0) & (labels != 1)]
    if len(wrong):
        raise ValueError(f"{name} must be 0 or 1, got {wrong[0].item():g}")


def check_columns(names: Sequence[str], columns: Sequence[int], count: int) -> None:
    """A name for each of `count` attributes, and columns among them.

    Raises:
        ValueError: If the names are too few or many, or a column is out of range.
    """
    if len(names) != count:
        raise ValueError(f"names must be one an attribute, {count}, got {len(names)}")
    outside = [column for column in columns if not 0 <= column < count]
    if outside or not columns:
        got = outside[0] if outside else "none"
        raise ValueError(f"attributes must be columns from 0 to {count - 1}, got {got}")
