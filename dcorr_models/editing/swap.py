"""Class and content of different images put together: methods whose class code is a vector.

Such a code has no entry a class to exchange. An edit takes it whole from another image, or from
what the method has learned of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages, is_unlabelled
from dcorr_models.editing.passes import BATCH, check_images, edits, inference, to_networks_of
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Method
from dcorr_models.methods.class_content import ClassContent

__all__ = ["check_class_content", "class_codes", "example_rows", "swap", "transfer", "translate"]

IMAGES_A_CLASS = 16
"""Images whose class codes stand for a class of which the method knows no vector."""


def swap(method: Method, class_images: Tensor, content_images: Tensor) -> Tensor:
    """Every class with every content: the grids of LORD's Figs. 2 and 3.

    Args:
        method: a trained method of class and content codes. It works in eval mode without
            gradients; its training flags stay as they were.
        class_images: (N, C, H, W) of the method's image shape, in its value range.
        content_images: (M, C, H, W), likewise.

    Returns:
        (N, M, C, H, W) on the content images' device; `[n, m]` has the class of `class_images[n]`
        and the content of `content_images[m]`.

    Raises:
        UserError: a method of another kind, or images of another shape.

    Reference:
        Gabbay and Hoshen (LORD), 2020, section 5.
    """
    check_class_content(method)
    check_images(method, class_images)
    return translate(method, content_images, _class_codes_of(method, class_images)).transpose(0, 1)


def transfer(method: Method, class_images: Tensor, content_images: Tensor) -> Tensor:
    """The class of each image with the content of its partner, row by row.

    Args:
        method: see `swap`.
        class_images: (N, C, H, W).
        content_images: (N, C, H, W).

    Returns:
        (N, C, H, W) on the content images' device.

    Raises:
        UserError: see `swap`; different numbers of images.
    """
    check_class_content(method)
    check_images(method, class_images)
    check_images(method, content_images)
    if len(class_images) != len(content_images):
        raise UserError(
            "class_images and content_images go together row by row, "
            f"got {len(class_images)} and {len(content_images)}: swap makes all pairs"
        )
    codes = _class_codes_of(method, class_images)
    return edits(method, content_images, [lambda label, rows: codes[rows].to(label)])[:, 0]


def translate(method: Method, images: Tensor, codes: Tensor) -> Tensor:
    """Each image with each of several class codes: LORD's domain translation.

    Args:
        method: see `swap`.
        images: (N, C, H, W), whose content stays.
        codes: (K, class_dim), such as `class_codes` gives.

    Returns:
        (N, K, C, H, W) on the images' device.

    Raises:
        UserError: see `swap`; codes of another width, or none.
    """
    width = check_class_content(method).class_dim
    check_images(method, images)
    if codes.ndim != 2 or codes.shape[1] != width or not len(codes):
        raise UserError(f"codes must have shape (K, {width}), got {tuple(codes.shape)}")
    return edits(method, images, [partial(_replace, code=code) for code in codes])


def class_codes(method: Method, images: LabelledImages, classes: Sequence[int]) -> Tensor:
    """A code for each class: the method's own vector, or else the mean over images of the class.

    Args:
        method: see `swap`.
        images: labelled images, from which the first 16 of a class are taken where the method
            knows no vector of it.
        classes: K of them.

    Returns:
        (K, class_dim) on the CPU.

    Raises:
        UserError: see `swap`; images with attributes; classes of which the method knows no vector
            and that have no image, with their list.
    """
    own = check_class_content(method).class_vectors()
    if images.labels.ndim > 1:
        raise UserError(
            "images with several attributes have no class to take a code of: take that of another "
            "image (editing.swap; on the command line --class_of)"
        )
    own = None if own is None else own.detach().cpu()
    # one sort, not a search through all labels for each class
    order = images.labels.argsort(stable=True)
    ordered = images.labels[order]
    codes, missing = [], []
    for label in classes:
        if own is not None and bool(own[label].isfinite().all()):
            codes.append(own[label])
            continue
        bounds = torch.searchsorted(ordered, torch.tensor([label, label + 1])).tolist()
        rows = order[bounds[0] : bounds[1]][:IMAGES_A_CLASS].tolist()
        if rows:
            batch = images.__getitems__(rows)["image"]
            codes.append(_class_codes_of(method, batch).mean(dim=0).cpu())
        else:
            missing.append(label)
    if missing:
        names = method.label_names or tuple(map(str, range(method.num_labels)))
        listed = ", ".join(names[k] for k in missing[:12])
        more = f" and {len(missing) - 12} more" if len(missing) > 12 else ""
        raise UserError(
            f"no code for the classes {listed}{more}: the method has not learned them and there "
            "is no image of them; take a class code from an image of your own (editing.swap; on "
            "the command line --class_of)"
        )
    return torch.stack(codes)


def example_rows(images: LabelledImages, count: int) -> list[int]:
    """Some images of different classes, and as far as can be of different contents.

    Of the classes that there are, every so many-th is taken, evenly over all; from the i-th of
    them the image at i / count of its images, in their order. Nothing is chosen by looks.

    Args:
        images: labelled images; those without a label are left out.
        count: how many; with fewer classes, classes come again.

    Returns:
        At most `count` different rows.

    Example:
        >>> labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
        >>> images = LabelledImages(torch.zeros(8, 1, 2, 2, dtype=torch.uint8), labels)
        >>> example_rows(images, 2), example_rows(images, 8)
        ([0, 5], [0, 2, 4, 6, 1, 3, 5, 7])
    """
    labels = images.labels if images.labels.ndim == 1 else torch.zeros(len(images))  # attributes
    order = labels.argsort(stable=True)
    order = order[~is_unlabelled(labels[order])]
    counts = torch.unique_consecutive(labels[order], return_counts=True)[1].tolist()
    starts = [sum(counts[:k]) for k in range(len(counts))]
    shown = min(count, len(counts))
    rows: dict[int, None] = {}
    for i in range(count):
        k = i % shown * len(counts) // shown
        rows[int(order[starts[k] + i * counts[k] // count])] = None
    return list(rows)


def check_class_content(method: Method) -> ClassContent:
    """The same method; refuses those without a class code and a content code."""
    if not isinstance(method, ClassContent):
        way = "its label code is edited by attributes or classes (editing.edit_attributes, "
        way += "edit_class; on the command line --set, --attribute or --target)"
        if not method.has_label_code:
            way = "it reconstructs images, and there is nothing to edit"
        raise UserError(f"this {type(method).__name__} has no class vectors to swap: {way}")
    return method


def _class_codes_of(method: Method, images: Tensor) -> Tensor:
    """(N, class_dim) on the networks' device."""
    with inference(method):
        parts = torch.split(images, BATCH)
        return torch.cat([method.encode(to_networks_of(method, part)).label for part in parts])


def _replace(label_codes: Tensor, rows: slice, *, code: Tensor) -> Tensor:
    return code.to(label_codes).expand_as(label_codes)
