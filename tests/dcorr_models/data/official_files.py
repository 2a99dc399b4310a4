"""Small files in the exact formats of SmallNORB, Cars3D and dSprites."""

from __future__ import annotations

import gzip
import itertools
import struct
from pathlib import Path

import numpy as np
import scipy.io

NORB_FILES = {
    "training": ("smallnorb-5x46789x9x18x6x2x96x96-training", (4, 9)),
    "testing": ("smallnorb-5x01235x9x18x6x2x96x96-testing", (0, 5)),
}
# category, elevation, azimuth and lighting of each instance's stereo pairs
NORB_VIEWS = list(itertools.product((0, 4), (0, 8), (0, 2, 34), (1, 5)))
_MAGIC = {np.dtype("uint8"): 0x1E3D4C55, np.dtype("int32"): 0x1E3D4C54}


def norb_bytes(matrix: np.ndarray, *, magic: int | None = None) -> bytes:
    sizes = [*matrix.shape, *[1] * (3 - matrix.ndim)]
    header = struct.pack("<Ii", magic or _MAGIC[matrix.dtype], matrix.ndim)
    return header + struct.pack(f"<{len(sizes)}i", *sizes) + matrix.tobytes()


def norb_grey(category: int, instance: int, elevation: int, azimuth: int, light: int) -> int:
    """The left image of a pair is as grey as this, the right one is brighter by 1."""
    return 2 * (60 * (category > 0) + 12 * (instance % 5) + 6 * (elevation > 0)) // 2 + (
        2 * (0, 2, 34).index(azimuth) + 128 * (light == 5)
    )


def write_norb(folder: Path, *, zipped: bool = False) -> Path:
    """Two categories with two toys each in a file, 96 stereo pairs together."""
    folder.mkdir(exist_ok=True)
    for name, instances in NORB_FILES.values():
        rows = [(c, i, e, a, g) for i in instances for c, e, a, g in NORB_VIEWS]
        left = np.array([norb_grey(*row) for row in rows], dtype=np.uint8)
        dat = np.broadcast_to(
            np.stack([left, left + 1], axis=1)[:, :, None, None], (len(rows), 2, 96, 96)
        )
        table = np.array(rows, dtype=np.int32)
        for what, matrix in (
            ("dat", np.ascontiguousarray(dat)),
            ("cat", np.ascontiguousarray(table[:, 0])),
            ("info", np.ascontiguousarray(table[:, 1:])),
        ):
            content = norb_bytes(matrix)
            path = folder / f"{name}-{what}.mat"
            if zipped:
                path.with_suffix(".mat.gz").write_bytes(gzip.compress(content, 1))
            else:
                path.write_bytes(content)
    return folder


def write_cars(folder: Path, models: int = 3, *, listed: bool = True) -> Path:
    """A pixel says its model (red), elevation (green) and azimuth (blue)."""
    folder.mkdir(exist_ok=True)
    for model in range(1, models + 1):
        im = np.empty((128, 128, 3, 24, 4), dtype=np.uint8)
        im[:, :, 0] = 10 * model
        im[:, :, 1] = 20 * np.arange(4)
        im[:, :, 2] = 5 * np.arange(24)[:, None]
        scipy.io.savemat(folder / f"car_{model:03d}_mesh.mat", {"im": im}, do_compression=True)
    if listed:
        names = [f"car_{model:03d}_mesh\n" for model in range(1, models + 1)]
        (folder / "list.txt").write_text("".join(names))
    return folder


def write_dsprites(path: Path, levels: tuple[int, ...] = (3, 2, 4, 2, 2), **replaced) -> Path:
    """Sprites are stripes that spell their number in the grid in binary."""
    grid = np.array(list(itertools.product(*map(range, levels))), dtype=np.int64)
    count = len(grid)
    images = np.zeros((count, 64, 64), dtype=np.uint8)
    images[:, :10] = (np.arange(count)[:, None] >> np.arange(10) & 1)[:, :, None]
    classes = np.column_stack([np.zeros(count, np.int64), grid])
    values = classes / 2 + 1
    np.savez_compressed(
        path,
        **{
            "metadata": np.array({"title": "dSprites"}, dtype=object),
            "imgs": images,
            "latents_values": values,
            "latents_classes": classes,
        }
        | replaced,
    )
    return path


def dsprites_number(image: np.ndarray) -> int:
    return int(((image[0, :10, 0] > 0) << np.arange(10)).sum())
