"""The images that the command line edits: the user's files or test images; and files for edits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dcorr_models.data.base import DataSource
from dcorr_models.errors import UserError
from dcorr_models.pictures import read_image_file
from dcorr_models.whole_files import whole_file

__all__ = ["Inputs", "check_pictures", "file_inputs", "test_inputs", "write_file"]


class Inputs(NamedTuple):
    """Images, and what their files are called."""

    images: Tensor  # (N, C, H, W)
    stems: list[str]


def file_inputs(data: DataSource, paths: Sequence[str | Path], *, invert: bool) -> Inputs:
    """The user's own files; see `read_image_file`.

    Raises:
        UserError: a file that cannot be read, or data that are no pictures.
    """
    check_pictures(data)
    files = [
        read_image_file(path, data.image_shape, data.value_range, invert=invert) for path in paths
    ]
    return Inputs(torch.stack(files), [Path(path).stem for path in paths])


def test_inputs(data: DataSource, indices: Sequence[int] | None, *, first: int) -> Inputs:
    """Images of the test split; the first ones where no indices are given.

    Raises:
        UserError: no index at all, one outside the test split, no test images, or data that are no
            pictures.
    """
    check_pictures(data)
    if indices is not None and not indices:
        raise UserError("nothing to edit: give image files or the indices of test images")
    test = data.splits().test
    if not len(test):
        raise UserError("there are no test images to edit: give image files")
    if indices is None:
        indices = range(min(first, len(test)))
    outside = [i for i in indices if not 0 <= i < len(test)]
    if outside:
        raise UserError(f"index {outside[0]} is outside the {len(test)} test images")
    return Inputs(test.__getitems__(indices)["image"], [f"test{index}" for index in indices])


def check_pictures(data: DataSource) -> None:
    """Refuses data that cannot be drawn as pictures: points of a plane.

    Raises:
        UserError: neither grey nor coloured images.
    """
    if data.image_shape[0] not in (1, 3):
        raise UserError(
            f"{data.name} are no pictures (their shape is {tuple(data.image_shape)}), and files "
            "hold pictures: work on them from Python, as tensors"
        )


def write_file(path: Path, content: bytes) -> None:
    """The file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
