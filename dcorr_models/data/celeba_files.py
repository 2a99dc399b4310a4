"""The text files of CelebA's release, checked line by line, and its images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dcorr_models.data.attribute_names import nearest
from dcorr_models.data.image_files import FolderFiles, ImageFiles, ZippedFiles
from dcorr_models.errors import DataError

__all__ = ["ATTRIBUTES", "NUM_IDENTITIES", "find_images", "read_attributes", "read_numbers"]

_NAMES = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
ATTRIBUTES = tuple(_NAMES.split())
NUM_IDENTITIES = 10_177
# the release keeps its files in these folders; most copies keep them all in one
_FOLDERS = (".", "Anno", "Eval", "Img")
_IMAGES = "img_align_celeba"


def find_file(folder: Path, name: str) -> Path:
    """One of the release's files, in the folder or in the subfolder where the release has it.

    Raises:
        DataError: If the folder or the file does not exist.
    """
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder} for CelebA: put the files of the release there, or name "
            "their folder with --data.folder"
        )
    for place in _FOLDERS:
        if (path := folder / place / name).exists():
            return path
    raise DataError(f"{folder} lacks {name} of CelebA's release: put it there")


def find_images(folder: Path, names: Sequence[str]) -> ImageFiles:
    """The images, unpacked or in their archive; the unpacked ones come first.

    Args:
        folder: Folder of the release.
        names: Names of the images, in the order wanted.

    Returns:
        The files, none of them missing.

    Raises:
        DataError: If there are none, some are missing, or the archive is broken.
    """
    archive = next((p for f in _FOLDERS if (p := folder / f / f"{_IMAGES}.zip").exists()), None)
    for place in _FOLDERS:
        unpacked = folder / place / _IMAGES
        if unpacked.is_dir():
            # unpacking into a folder of the archive's own name makes a second one
            inner = unpacked / _IMAGES
            files = FolderFiles(inner if inner.is_dir() else unpacked, names)
            hint = f" from {archive}" if archive else ""
            files.require_all(f"unpack them again{hint}, or remove the folder to read the archive"
                              if archive else "unpack the archive again")  # fmt: skip
            return files
    if archive is None:
        raise DataError(
            f"{folder} has neither the folder {_IMAGES} nor {_IMAGES}.zip: put one of them there"
        )
    zipped = ZippedFiles(archive, names)
    zipped.require_all("fetch the archive again")
    return zipped


def read_attributes(folder: Path) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """`list_attr_celeba.txt`: the number of images, the attributes' names, a line an image.

    Args:
        folder: Folder of the release.

    Returns:
        The images' names, and 0 or 1 for each image and attribute, shape (N, 40).

    Raises:
        DataError: If the file is missing or not as it should be; the message names the line.
    """
    path = find_file(folder, "list_attr_celeba.txt")
    lines = _lines(path)
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        first = lines[0][:40] if lines else "nothing"
        raise DataError(f"{path}, line 1: wanted the number of images, got {first!r}")
    _check_header(path, lines[1].split())
    count, body = int(lines[0]), lines[2:]
    if len(body) != count:
        raise DataError(
            f"{path}, line 1 promises {count} images, {len(body)} lines follow the header; "
            "fetch it again"
        )
    names, values = [], np.empty((count, len(ATTRIBUTES)), np.int8)
    for row, line in enumerate(body):
        name, _, rest = line.strip().partition(" ")
        words = rest.split()
        if len(words) != len(ATTRIBUTES) or not set(words) <= {"1", "-1"}:
            raise DataError(
                f"{path}, line {row + 3}: wanted a file name and {len(ATTRIBUTES)} values of 1 or "
                f"-1, got {line[:60]!r}"
            )
        names.append(name)
        values[row] = [word == "1" for word in words]
    _check_unique(path, names, first_line=3)
    return names, values.astype(np.uint8)


def read_numbers(
    folder: Path, file: str, names: Sequence[str], lowest: int, highest: int
) -> npt.NDArray[np.int64]:
    """`list_eval_partition.txt` or `identity_CelebA.txt`: a file name and a number in each line.

    Args:
        folder: Folder of the release.
        file: Name of the text file.
        names: The images whose numbers are wanted.
        lowest: Smallest number that is right.
        highest: Largest number that is right.

    Returns:
        int64 array of shape (N,), a number for each name.

    Raises:
        DataError: If the file is missing, a line is not as it should be, or a name is missing.
    """
    path = find_file(folder, file)
    numbers: dict[str, int] = {}
    for row, line in enumerate(_lines(path)):
        words = line.split()
        right = len(words) == 2 and words[1].isdecimal() and lowest <= int(words[1]) <= highest
        if not right:
            raise DataError(
                f"{path}, line {row + 1}: wanted a file name and a number from {lowest} to "
                f"{highest}, got {line[:60]!r}"
            )
        if words[0] in numbers:
            raise DataError(f"{path}, line {row + 1}: {words[0]} stands in an earlier line already")
        numbers[words[0]] = int(words[1])
    missing = [name for name in names if name not in numbers]
    if missing:
        raise DataError(
            f"{path} has no line for {len(missing)} of {len(names)} images "
            f"({', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}); fetch it again"
        )
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _check_header(path: Path, names: list[str]) -> None:
    if tuple(names) == ATTRIBUTES:
        return
    for name in names:
        if name not in ATTRIBUTES:
            raise DataError(
                f"{path}, line 2: {name[:40]!r} is no attribute of CelebA"
                f"{nearest(name, ATTRIBUTES)}"
            )
    raise DataError(
        f"{path}, line 2: wanted CelebA's 40 attributes in their order, got {len(names)} names, "
        f"from {names[0] if names else 'nothing'} on; fetch it again"
    )


def _check_unique(path: Path, names: Sequence[str], *, first_line: int) -> None:
    seen: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in seen:
            raise DataError(
                f"{path}, line {row + first_line}: {name} stands in line {seen[name]} already"
            )
        seen[name] = row + first_line


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}; fetch it again") from error
    return text.rstrip().splitlines()
