"""SmallNORB from its binary files: 50 toys under many lights and from many sides, in stereo."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dcorr_models.data.base import Splits
from dcorr_models.data.class_splits import check_shares, class_splits, held_out_classes
from dcorr_models.data.image_cache import Bytes, default_cache_folder
from dcorr_models.data.interpolation import unfiltered_bilinear
from dcorr_models.data.mapped_splits import Known, MappedSource, files_stamp, missing_folder
from dcorr_models.data.norb_matrix import (
    check_end,
    find_matrix,
    open_matrix,
    read_matrix,
    read_rows,
)
from dcorr_models.data.parallel import announced, to_stderr
from dcorr_models.errors import DataError

__all__ = ["SmallNORB"]

_Rows = npt.NDArray[np.int64]

SIDE = 96
CATEGORIES = ("animal", "human", "plane", "truck", "car")
CAMERAS = ("left", "right")
FILES = {
    "training": "smallnorb-5x46789x9x18x6x2x96x96-training",
    "testing": "smallnorb-5x01235x9x18x6x2x96x96-testing",
}
# the toys of each category that the files' names promise: another file under this name is noticed
INSTANCES = {"training": (4, 6, 7, 8, 9), "testing": (0, 1, 2, 3, 5)}
# how many values each factor has; azimuths are even numbers, to be multiplied by 10 degrees
_LEVELS = {"category": 5, "instance": 10, "elevation": 9, "azimuth": 35, "lighting": 6}
# those that mean the same for every toy, and how many levels each of them has
_FACTORS = {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6, "camera": 2}
_PAIRS_AT_ONCE = 128


class _Views(NamedTuple):
    """What is known of each image; the two of a stereo pair follow each other."""

    factors: dict[str, _Rows]
    tests: npt.NDArray[np.bool_]


class SmallNORB(MappedSource):
    """97,200 grey images of 50 toys, in [0, 1]: 9 elevations, 18 azimuths, 6 lights, 2 cameras.

    The content is the azimuth; the class is the toy, the light, and what `elevation` and `camera`
    say. With `elevation="content"` that is SmallNORB-Poses. In every folder lie six files, gzipped
    or not: `smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat`, `-cat.mat` and `-info.mat`, and
    `smallnorb-5x01235x9x18x6x2x96x96-testing-` likewise. The images are shrunk by bilinear
    interpolation of the nearest four pixels, as LORD's published code does. `targets` are the
    elevation in radians and the cosine and sine of the azimuth. The toy's number is none of the
    factors: it means something within its category alone.

    Args:
        folder: Folder of the release's files.
        size: Side of the images in pixels, at most 96.
        elevation: Whether the elevation belongs to the class or to the content.
        camera: Whether the camera belongs to the class, 5,400 classes of 18 images as in LORD's
            code; to the content; or to "neither", 2,700 classes of 36 images as in its paper,
            where two images share a class and a content.
        split: "instance": the release's training file trains, its test file tests: other toys.
            "class": classes drawn at random test (LORD's code). "image": shares of all classes'
            images test, as with SmallNORB-Poses.
        test_classes: In the split "class", how many classes test; half of them by default.
        valid: Share of the training classes' images that validates.
        test: Share of the images that tests, in the split "image".
        seed: Of the choices at random, from 0 to 2**32 - 1.
        cache: Folder for the shrunk images; a folder in the user's cache by default.

    Reference:
        LeCun, Huang and Bottou, Learning methods for generic object recognition with invariance to
        pose and lighting, 2004.
    """

    name: ClassVar[str] = "SmallNORB"
    target_names: ClassVar[tuple[str, ...]] = ("elevation", "cos azimuth", "sin azimuth")
    """Names of the columns of `targets`."""
    factor_names = tuple(_FACTORS)
    factor_sizes = tuple(_FACTORS.values())

    def __init__(
        self,
        folder: str | Path = "data/smallnorb",
        size: int = 64,
        elevation: Literal["class", "content"] = "class",
        camera: Literal["class", "content", "neither"] = "class",
        split: Literal["instance", "class", "image"] = "instance",
        test_classes: int | None = None,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        for argument, value, known in (
            ("elevation", elevation, ("class", "content")),
            ("camera", camera, ("class", "content", "neither")),
            ("split", split, ("instance", "class", "image")),
        ):
            if value not in known:
                raise DataError(f"{argument} must be one of {', '.join(known)}, got {value!r}")
        if not 1 <= size <= SIDE:
            raise DataError(f"size must be from 1 to {SIDE}, got {size}")
        if test_classes is not None and split != "class":
            raise DataError(
                f"test_classes is for the split class, but the split is {split}: leave one out"
            )
        check_shares(valid, test, 0 if test_classes is None else test_classes, seed)
        self.folder = Path(folder)
        self.image_shape = (1, size, size)
        self.elevation, self.camera, self.split = elevation, camera, split
        self.test_classes, self.valid, self.test = test_classes, valid, test
        self.seed = seed
        self.cache = default_cache_folder() if cache is None else Path(cache)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the files alone
        """Toy, light, and what else is in the class: `car 4, light 0, elevation 3, left`."""
        return self._classes[0]

    def splits(self) -> Splits:
        """Map the shrunk images, which are shrunk first if they are not there.

        Raises:
            DataError: If a file is missing, of another kind or size, or says what cannot be.
        """
        labels = self._classes[1]
        factors = self._views.factors
        angle = np.radians(10.0 * factors["azimuth"])
        targets = [np.radians(30 + 5.0 * factors["elevation"]), np.cos(angle), np.sin(angle)]
        levels = {**factors, "azimuth": factors["azimuth"] // 2}
        known = Known(
            labels,
            self._numbered(self._content_factors())[1],
            np.stack(targets, axis=1).astype(np.float32),
            np.stack([levels[name] for name in _FACTORS], axis=1),
        )
        parts = class_splits(
            labels, self._held_out(labels), valid=self.valid, test=self.test, seed=self.seed
        )
        paths = [self._path(kind, "dat") for kind in FILES]
        settings = {"files": files_stamp(paths), "recipe": 1}
        return self._mapped(known, parts, self._write, settings)

    def _content_factors(self) -> list[str]:
        chosen = {"elevation": self.elevation, "azimuth": "content", "camera": self.camera}
        return [name for name, where in chosen.items() if where == "content"]

    @cached_property
    def _classes(self) -> tuple[tuple[str, ...], _Rows]:
        """Names of the classes, and the class of each image."""
        names = ["category", "instance", "lighting"]
        names += [name for name in ("elevation", "camera") if getattr(self, name) == "class"]
        values, labels = self._numbered(names)
        return tuple(_class_name(dict(zip(names, row, strict=True))) for row in values), labels

    def _numbered(self, names: Sequence[str]) -> tuple[list[list[int]], _Rows]:
        """The combinations of some factors that there are, and which of them each image has."""
        columns = np.stack([self._views.factors[name] for name in names], axis=1)
        values, numbers = np.unique(columns, axis=0, return_inverse=True)
        return values.tolist(), numbers.reshape(-1).astype(np.int64)

    def _held_out(self, labels: _Rows) -> _Rows:
        if self.split == "instance":
            return np.unique(labels[self._views.tests])
        if self.split == "image":
            return np.empty(0, np.int64)
        names = self.label_names
        count = len(names) // 2 if self.test_classes is None else self.test_classes
        return held_out_classes(count, names, self.seed)

    @cached_property
    def _views(self) -> _Views:
        if not self.folder.is_dir():
            raise missing_folder(self.folder, self.name, "the six files of the release")
        parts = [
            _read_factors(kind, *(self._path(kind, what) for what in ("dat", "cat", "info")))
            for kind in FILES
        ]
        pairs = {name: np.concatenate([part[name] for part in parts]) for name in _LEVELS}
        count = len(pairs["category"])
        factors = {name: np.repeat(column, 2) for name, column in pairs.items()}
        factors["camera"] = np.tile(np.arange(2), count)
        return _Views(factors, np.arange(2 * count) >= 2 * len(parts[0]["category"]))

    def _path(self, kind: str, what: str) -> Path:
        name = f"{FILES[kind]}-{what}.mat"
        path = find_matrix(self.folder, name)
        if path is None:
            raise DataError(f"{self.folder} lacks {name} (or .gz) of {self.name}; put it there")
        return path

    def _write(self, images: Bytes, places: _Rows) -> None:
        first = 0
        for kind in FILES:
            path, size = self._path(kind, "dat"), self.image_shape[-1]
            with open_matrix(path, "uint8", (None, 2, SIDE, SIDE)) as (stream, sizes):
                starts = range(0, sizes[0], _PAIRS_AT_ONCE)
                title = f"{self.name}, {kind}, shrunk once into {self.cache}: blocks"
                for start in announced(iter(starts), len(starts), title, to_stderr):
                    pairs = min(_PAIRS_AT_ONCE, sizes[0] - start)
                    content = read_rows(path, stream, pairs, 2 * SIDE * SIDE)
                    block = np.frombuffer(content, np.uint8).reshape(-1, SIDE, SIDE)
                    # images as channels: all of a block at once
                    shrunk = unfiltered_bilinear(block.transpose(1, 2, 0).astype(float), size)
                    where = places[first : first + 2 * pairs]
                    images[where[where >= 0], 0] = shrunk.transpose(2, 0, 1)[where >= 0]
                    first += 2 * pairs
                check_end(path, stream)


def _read_factors(kind: str, dat: Path, cat: Path, info: Path) -> dict[str, _Rows]:
    """The factors of each stereo pair of a file, checked."""
    with open_matrix(dat, "uint8", (None, 2, SIDE, SIDE)) as (_, sizes):
        count = sizes[0]
    category = read_matrix(cat, (count,))
    columns = read_matrix(info, (count, 4)).T
    names = ("instance", "elevation", "azimuth", "lighting")
    factors = {"category": category, **dict(zip(names, columns, strict=True))}
    for name, column in factors.items():
        wrong = (column < 0) | (column >= _LEVELS[name])
        wanted = f"from 0 to {_LEVELS[name] - 1}"
        if name == "azimuth":
            wrong |= column % 2 == 1
            wanted = f"even and {wanted}"
        if name == "instance":
            wrong = ~np.isin(column, INSTANCES[kind])
            wanted = f"one of {', '.join(map(str, INSTANCES[kind]))} in the {kind} file"
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"{cat if name == 'category' else info}, row {row}: {name} must be {wanted}, "
                f"got {column[row]}; fetch it again"
            )
    return factors


def _class_name(values: dict[str, int]) -> str:
    words = [
        f"{CATEGORIES[values['category']]} {values['instance']}",
        f"light {values['lighting']}",
    ]
    if "elevation" in values:
        words.append(f"elevation {values['elevation']}")
    if "camera" in values:
        words.append(CAMERAS[values["camera"]])
    return ", ".join(words)
