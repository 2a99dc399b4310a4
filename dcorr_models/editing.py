"""Editing an image by its label code: another class, in the image's own style."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dcorr_models.data.base import DataSource
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.pictures import grid, png_bytes, read_image_file

__all__ = [
    "edit_class",
    "edit_files",
    "inference",
    "read_image_file",
    "style_transfer",
    "swap_class",
]


@contextmanager
def inference(method: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every module's own training flag comes back.

    Example:
        >>> net = nn.Sequential(nn.Dropout().eval(), nn.Linear(1, 1))
        >>> with inference(net):
        ...     net.training, torch.is_grad_enabled()
        (False, False)
        >>> net.training, net[0].training
        (True, False)
    """
    flags = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags:
            module.training = flag


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
        UserError: a method of attributes, images of another shape, a target out of range.
    """
    _check_editable(method, images)
    with inference(method):
        codes = method.encode(_to_device_of(method, images))
        swapped = swap_class(codes.label, target)
        return method.decode(Codes(swapped, codes.residual)).to(images.device)


def style_transfer(method: Method, images: Tensor) -> Tensor:
    """Every class in every image's style: the rows of CDNet's Fig. 4 without their first column.

    Args:
        method: see `edit_class`.
        images: (N, C, H, W); N · K images are decoded in one pass.

    Returns:
        (N, K, C, H, W) on the images' device; `[n, k]` is class k in the style of image n.

    Raises:
        UserError: a method of attributes, or images of another shape.
    """
    _check_editable(method, images)
    count, classes = len(images), method.num_labels
    with inference(method):
        codes = method.encode(_to_device_of(method, images))
        repeated = Codes(*(code.repeat_interleave(classes, dim=0) for code in codes))
        targets = torch.arange(classes, device=codes.label.device).repeat(count)
        swapped = swap_class(repeated.label, targets)
        decoded = method.decode(Codes(swapped, repeated.residual))
        return decoded.reshape(count, classes, *decoded.shape[1:]).to(images.device)


def edit_files(
    method: Method,
    data: DataSource,
    out: Path,
    *,
    target: str | None = None,
    images: Sequence[str | Path] = (),
    indices: Sequence[int] = (),
    invert: bool = False,
) -> Path:
    """Edits image files or test images, and writes the results as PNG files.

    Args:
        method: a trained method.
        data: the data it was trained on: names of the classes, image shape, value range.
        out: folder for the results, made if missing: `edited.png` with the input in the first
            column and an edit in each other one, and a file an edit.
        target: name of the class to edit to; None for every class.
        images: the user's own files; see `read_image_file`.
        indices: test images to edit where `images` is empty.
        invert: exchange black and white in the files.

    Returns:
        Path of `edited.png`.

    Raises:
        UserError: an unknown class, a broken file, an index outside the test split, nothing to
            edit, a folder that cannot be written to.
    """
    names = list(data.label_names)
    targets = range(len(names)) if target is None else [_class_index(target, names)]
    if images:
        inputs = torch.stack(
            [read_image_file(p, data.image_shape, data.value_range, invert=invert) for p in images]
        )
        stems = [Path(path).stem for path in images]
    else:
        inputs = _test_images(data, indices)
        stems = [f"test{index}" for index in indices]
    if target is None:
        edited = style_transfer(method, inputs)  # (N, T, C, H, W)
    else:
        edited = edit_class(method, inputs, targets[0]).unsqueeze(1)
    rows = torch.cat([inputs.unsqueeze(1), edited], dim=1)
    scale = max(1, 84 // data.image_shape[1])
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number, (stem, row) in enumerate(zip(stems, edited, strict=True)):
            for index, image in zip(targets, row, strict=True):
                single = grid([[image]], value_range=data.value_range)
                name = _file_name(f"{number:02d}_{stem}_as_{names[index]}.png")
                (out / name).write_bytes(png_bytes(single))
        picture = grid(rows, value_range=data.value_range, scale=scale, padding=4, gap_after=1)
        (out / "edited.png").write_bytes(png_bytes(picture))
    except OSError as error:
        raise UserError(
            f"{out} cannot be written to ({error.strerror}): give --out another folder"
        ) from error
    return out / "edited.png"


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


def _check_editable(method: Method, images: Tensor) -> None:
    if method.multilabel:
        raise UserError(
            f"this {type(method).__name__} was trained on attributes: "
            "swapping classes needs a method of exclusive classes"
        )
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(method.image_shape):
        wanted = ", ".join(map(str, method.image_shape))
        raise UserError(f"images must have shape (N, {wanted}), got {tuple(images.shape)}")
    if not images.is_floating_point():
        raise UserError(f"images must be floating point, got {images.dtype}")


def _to_device_of(method: Method, images: Tensor) -> Tensor:
    first = next(method.parameters(), None)
    return images if first is None else images.to(first.device)


def _class_index(target: str, names: Sequence[str]) -> int:
    if target in names:
        return names.index(target)
    close = difflib.get_close_matches(target, names, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"the classes are {', '.join(names)}"
    raise UserError(f"no class {target!r}: {hint}")


def _test_images(data: DataSource, indices: Sequence[int]) -> Tensor:
    test = data.splits().test
    if not indices:
        raise UserError("nothing to edit: give image files or the indices of test images")
    outside = [i for i in indices if not 0 <= i < len(test)]
    if outside:
        raise UserError(f"index {outside[0]} is outside the {len(test)} test images")
    return test.__getitems__(indices)["image"]


def _file_name(name: str) -> str:
    """Without what a file system or a shell could take amiss."""
    return re.sub(r"[^\w.-]+", "_", name)
