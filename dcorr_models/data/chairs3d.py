"""3D Chairs from its rendered images: 1,393 models, each from 31 sides and 2 heights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dcorr_models.data.decoded_source import DecodedSource, Listing
from dcorr_models.data.image_files import a_few
from dcorr_models.errors import DataError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Chairs3D"]

ELEVATIONS = (20, 30)
AZIMUTHS = tuple(360 * number // 31 for number in range(31))
"""In degrees, as the files' names have them."""
CROP = 450
_NAME = re.compile(r"image_\d+_p(\d+)_t(\d+)_r\d+\.png")


class Chairs3D(DecodedSource):
    """86,366 renderings of chairs on white, in colour, in [0, 1]: the class is the model.

    The folder is `rendered_chairs` of the release: in it a folder a model, in that the folder
    `renders` with 62 files such as `image_001_p020_t011_r096.png`: the elevation after p, the
    azimuth after t, in degrees. The central 450 x 450 of the 600 x 600 pixels are shrunk by
    Pillow's Lanczos filter. The content's number is `elevation · 31 + azimuth`.

    Args:
        folder: Folder of the models' folders.
        size: Side of the images in pixels.
        test_classes: How many models test, drawn at random, or which; 0 for held-out images of all
            models.
        valid: Share of the training models' images that validates.
        test: Share of the images that tests, where no whole models do; 0 to train on all, as
            ID-GAN does.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        skip_corrupt: Leave out image files that are broken, and say how many, instead of stopping.
        cache: Folder for the shrunk images; a folder in the user's cache by default.

    Reference:
        Aubry, Maturana, Efros, Russell and Sivic, Seeing 3D chairs, 2014.
    """

    name: ClassVar[str] = "3D Chairs"
    factor_names = ("elevation", "azimuth", "model")

    def __init__(
        self,
        folder: str | Path = "data/rendered_chairs",
        size: int = 64,
        test_classes: int | list[str] = 0,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        super().__init__(
            folder,
            size,
            test_classes=test_classes,
            valid=valid,
            test=test,
            seed=seed,
            skip_corrupt=skip_corrupt,
            cache=cache,
        )

    @property
    def factor_sizes(self) -> tuple[int, ...]:  # type: ignore[override]  # known to the files alone
        """Of `factor_names`."""
        return len(ELEVATIONS), len(AZIMUTHS), len(self.label_names)

    def _list(self) -> Listing:
        files = sorted(str(p.relative_to(self.folder)) for p in self.folder.glob("*/renders/*.png"))
        if not files:
            raise DataError(
                f"{self.folder} has no image MODEL/renders/image_NNN_pNNN_tNNN_rNNN.png; name the "
                "folder rendered_chairs of the release"
            )
        views = []
        for file in files:
            match = _NAME.fullmatch(Path(file).name)
            view = tuple(map(int, match.groups())) if match else (-1, -1)
            if view[0] not in ELEVATIONS or view[1] not in AZIMUTHS:
                raise DataError(
                    f"{self.folder}: {file} is not named as a view of 3D Chairs, "
                    "image_NNN_pNNN_tNNN_rNNN.png with the elevation 20 or 30 and the azimuth "
                    f"{', '.join(map(str, AZIMUTHS[:3]))}, ... or {AZIMUTHS[-1]}: take it out"
                )
            views.append((ELEVATIONS.index(view[0]), AZIMUTHS.index(view[1])))
        folders = [Path(file).parts[0] for file in files]
        names, labels = np.unique(folders, return_inverse=True)
        elevation, azimuth = np.array(views, dtype=np.int64).T
        content = elevation * len(AZIMUTHS) + azimuth
        views_of_all = len(ELEVATIONS) * len(AZIMUTHS)
        seen = np.bincount(labels, minlength=len(names))
        if (seen != views_of_all).any():
            wrong = [f"{names[n]} ({seen[n]})" for n in np.flatnonzero(seen != views_of_all)]
            raise DataError(
                f"{self.folder}: each model has {views_of_all} views, but {a_few(wrong)} "
                f"({len(wrong)} in all) not; unpack the release again, or take them out"
            )
        factors = np.stack([elevation, azimuth, labels], axis=1).astype(np.int64)
        return Listing(
            tuple(files), tuple(names.tolist()), labels.astype(np.int64), content, factors
        )

    def _cut(self, picture: Image.Image, row: int) -> Image.Image:
        if min(picture.size) < CROP:
            raise DataError(
                f"is {picture.width} x {picture.height} pixels, wanted {CROP} x {CROP} or more"
            )
        left, top = (picture.width - CROP) // 2, (picture.height - CROP) // 2
        return picture.crop((left, top, left + CROP, top + CROP))
