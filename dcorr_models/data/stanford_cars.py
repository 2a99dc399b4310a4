"""Stanford Cars from its release: 16,185 photographs, each with a box around its car."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from dcorr_models.data.decoded_source import DecodedSource, Listing
from dcorr_models.data.matlab_files import read_matlab
from dcorr_models.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["StanfordCars"]

_BOX = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_PARTS = {
    "cars_train": ("cars_train_annos",),
    "cars_test": ("cars_test_annos_withlabels", "cars_test_annos"),
}
_EXPECTED = "annotations of Stanford Cars"


class _Annotated(NamedTuple):
    file: str
    box: tuple[int, int, int, int]
    label: int
    """From 0, or -1 where the release does not tell it."""


class StanfordCars(DecodedSource):
    """Photographs of cars, cut out along their boxes, in [0, 1]: the class is make, model and year.

    Two forms of the release are read. Either the folder has the folders `cars_train`, `cars_test`
    and `devkit`, in the last one `cars_meta.mat`, `cars_train_annos.mat` and
    `cars_test_annos_withlabels.mat`, here or beside it; or `cars_test_annos.mat`, without classes:
    then the test images are of the class "unknown". Or it has `cars_annos.mat` and the folder
    `car_ims`. Reading the files needs the package scipy, the extra `data`.

    As in ID-GAN's code the images of both parts are pooled, the boxes' corners are taken as they
    stand, cuts with a side below `smallest` are dropped, and Pillow's Lanczos filter shrinks the
    others to squares: their aspect is lost.

    Args:
        folder: Folder of the release.
        size: Side of the images in pixels.
        smallest: Side that a box must have to be kept, in pixels.
        valid: Share of the images that validates.
        test: Share of the images that tests; 0 to train on all, as ID-GAN does.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        skip_corrupt: Leave out image files that are broken, and say how many, instead of stopping.
        cache: Folder for the shrunk images; a folder in the user's cache by default.

    Reference:
        Krause, Stark, Deng and Fei-Fei, 3D object representations for fine-grained categorization,
        2013.
    """

    name: ClassVar[str] = "Stanford Cars"

    def __init__(
        self,
        folder: str | Path = "data/stanford_cars",
        size: int = 64,
        smallest: int = 64,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(
            folder,
            size,
            valid=valid,
            test=test,
            seed=seed,
            skip_corrupt=skip_corrupt,
            cache=cache,
        )
        if smallest < 1:
            raise DataError(f"smallest must be 1 or more, got {smallest}")
        self.smallest = smallest

    def _list(self) -> Listing:
        names, images = self._kept
        labels = np.array([image.label for image in images], dtype=np.int64)
        if (labels < 0).any():
            labels[labels < 0] = len(names)
            names = (*names, "unknown")
        return Listing(tuple(image.file for image in images), names, labels)

    @cached_property
    def _kept(self) -> tuple[tuple[str, ...], list[_Annotated]]:
        """Names of the classes, and the images whose boxes are large enough."""
        if (self.folder / "cars_annos.mat").is_file():
            path = self.folder / "cars_annos.mat"
            names, images = _class_names(path), _annotations(path, "relative_im_path", "")
        else:
            names, images = _class_names(self._devkit("cars_meta")), []
            for part, tables in _PARTS.items():
                images += _annotations(self._devkit(*tables), "fname", f"{part}/")
        wrong = [image for image in images if image.label >= len(names)]
        if wrong:
            raise DataError(
                f"{self.folder}: {wrong[0].file} is of class {wrong[0].label + 1}, and there are "
                f"{len(names)}: unpack the release again"
            )
        kept = [i for i in images if _shorter_side(i.box) >= self.smallest]
        if not kept:
            raise DataError(
                f"{self.folder}: no box of {len(images)} has sides of {self.smallest} pixels or "
                "more; ask for a smaller smallest"
            )
        return names, kept

    def _devkit(self, *names: str) -> Path:
        """The first of some files that is there."""
        paths = [self.folder / place / f"{name}.mat" for name in names for place in ("devkit", "")]
        for path in paths:
            if path.is_file():
                return path
        raise DataError(
            f"{self.folder} lacks cars_annos.mat, and devkit/{names[0]}.mat too; put the files of "
            f"the release of {self.name} there"
        )

    def _recipe(self) -> dict[str, Any]:
        return {"boxes": [image.box for image in self._kept[1]]}

    def _cut(self, picture: Image.Image, row: int) -> Image.Image:
        box = self._kept[1][row].box
        if box[2] > picture.width or box[3] > picture.height:
            raise DataError(
                f"is {picture.width} x {picture.height} pixels, and its box ends at {box[2]}, "
                f"{box[3]}: images and boxes are not of one release"
            )
        return picture.crop(box)


def _class_names(path: Path) -> tuple[str, ...]:
    found = read_matlab(path, "class_names", expected=_EXPECTED, squeeze_me=True)
    return tuple(str(name) for name in np.atleast_1d(found))


def _annotations(path: Path, file: str, folder: str) -> list[_Annotated]:
    """All images of a file of annotations; their names are in the field `file`."""
    table = np.atleast_1d(read_matlab(path, "annotations", expected=_EXPECTED, squeeze_me=True))
    fields = table.dtype.names or ()
    missing = {file, *_BOX} - set(fields)
    if missing:
        raise DataError(
            f"{path} cannot be read as {_EXPECTED}: its annotations have no field "
            f"{', '.join(sorted(missing))}; unpack the release again"
        )
    classes = table["class"] if "class" in fields else np.zeros(len(table))
    images = []
    for row, label in zip(table, classes, strict=True):
        left, top, right, bottom = (int(row[name]) for name in _BOX)
        if not (0 <= left < right and 0 <= top < bottom):
            raise DataError(
                f"{path}: the box of {row[file]} goes from {left}, {top} to {right}, {bottom}; "
                "unpack the release again"
            )
        box = (left, top, right, bottom)
        images.append(_Annotated(f"{folder}{row[file]}", box, int(label) - 1))
    return images


def _shorter_side(box: tuple[int, int, int, int]) -> int:
    return min(box[2] - box[0], box[3] - box[1])
