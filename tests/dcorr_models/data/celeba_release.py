"""Small folders in the exact format of CelebA's release."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from dcorr_models.data.celeba_files import ATTRIBUTES

# 40 images: 30 train, 4 validate and 6 test
PARTITION = [0] * 30 + [1] * 4 + [2] * 6


def name_of(number: int) -> str:
    return f"{number:06d}.jpg"


def picture(number: int) -> Image.Image:
    """Flat colour that says the number, so that an image is known again after any crop."""
    return Image.new("RGB", (178, 218), (number * 5 % 256, 255 - number * 5 % 256, 90))


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def attributes(count: int) -> np.ndarray:
    return np.random.RandomState(7).randint(0, 2, size=(count, len(ATTRIBUTES)))


def identity(number: int) -> int:
    """Every person has two images."""
    return (number + 1) // 2


def write_release(folder: Path, *, zipped: bool = False, subfolders: bool = False) -> Path:
    count = len(PARTITION)
    places = ("Anno", "Eval", "Img") if subfolders else (".", ".", ".")
    anno, evaluation, images = (folder / place for place in places)
    for place in (anno, evaluation, images):
        place.mkdir(parents=True, exist_ok=True)
    lines = [str(count), " ".join(ATTRIBUTES) + " "]
    for number, row in enumerate(attributes(count), start=1):
        lines.append(f"{name_of(number)} " + " ".join(f"{2 * value - 1:2d}" for value in row))
    (anno / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    numbers = range(1, count + 1)
    (anno / "identity_CelebA.txt").write_text(
        "".join(f"{name_of(n)} {identity(n)}\n" for n in numbers)
    )
    (evaluation / "list_eval_partition.txt").write_text(
        "".join(f"{name_of(n)} {part}\n" for n, part in zip(numbers, PARTITION, strict=True))
    )
    if zipped:
        with zipfile.ZipFile(images / "img_align_celeba.zip", "w") as archive:
            for number in numbers:
                archive.writestr(f"img_align_celeba/{name_of(number)}", jpeg(number))
    else:
        (images / "img_align_celeba").mkdir()
        for number in numbers:
            (images / "img_align_celeba" / name_of(number)).write_bytes(jpeg(number))
    return folder


def numbers_in(images: np.ndarray) -> list[int]:
    """Which images these are, from the red of `picture`."""
    red = np.asarray(images)[:, 0].astype(float).mean(axis=(1, 2))
    return np.rint(red / 5).astype(int).tolist()
