"""Cars3D from its MATLAB files: 183 car models, each from 24 sides and 4 heights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from dcorr_models.data.base import Splits
from dcorr_models.data.class_splits import check_shares, class_splits, held_out_classes
from dcorr_models.data.image_cache import Bytes, default_cache_folder
from dcorr_models.data.image_files import a_few
from dcorr_models.data.mapped_splits import Known, MappedSource, files_stamp, missing_folder
from dcorr_models.data.matlab_files import read_matlab, scipy_io
from dcorr_models.data.parallel import announced, for_each_row, to_stderr
from dcorr_models.errors import DataError

__all__ = ["Cars3D"]

_Rows = npt.NDArray[np.int64]

SIDE, AZIMUTHS, ELEVATIONS = 128, 24, 4
_VIEWS = AZIMUTHS * ELEVATIONS
_EXPECTED = "a model of Cars3D"


class Cars3D(MappedSource):
    """17,568 colour images of car models, in [0, 1]: the class is the model, the content the view.

    The folder is `data/cars` of the release `nips2015-analogy-data.tar.gz`: a file
    `car_NNN_mesh.mat` for each of the 183 models, with the array `im` of 128 x 128 pixels, 3
    channels, 24 azimuths and 4 elevations. The content's number is `elevation · 24 + azimuth`.
    `targets` are the elevation's number over 3 and the cosine and sine of the azimuth. Reading the
    files needs the package scipy, the extra `data`. Images are shrunk by Pillow's Lanczos filter.

    Args:
        folder: Folder of the MATLAB files.
        size: Side of the images in pixels.
        test_classes: How many models test, drawn at random, or which, such as `[car_001]`; LORD
            takes 20. 0 for held-out images of all models.
        valid: Share of the training models' images that validates.
        test: Share of the images that tests, where no whole classes do.
        seed: Of the choices at random, from 0 to 2**32 - 1.
        cache: Folder for the shrunk images; a folder in the user's cache by default.

    Reference:
        Reed, Zhang, Zhang and Lee, Deep visual analogy-making, 2015.
    """

    name: ClassVar[str] = "Cars3D"
    target_names: ClassVar[tuple[str, ...]] = ("elevation", "cos azimuth", "sin azimuth")
    """Names of the columns of `targets`."""
    factor_names = ("elevation", "azimuth", "model")

    def __init__(
        self,
        folder: str | Path = "data/cars3d/cars",
        size: int = 64,
        test_classes: int | list[str] = 20,
        valid: float = 0.0,
        test: float = 0.1,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> None:
        if not 1 <= size <= SIDE:
            raise DataError(f"size must be from 1 to {SIDE}, got {size}")
        check_shares(valid, test, test_classes, seed)
        self.folder = Path(folder)
        self.image_shape = (3, size, size)
        self.test_classes, self.valid, self.test = test_classes, valid, test
        self.seed = seed
        self.cache = default_cache_folder() if cache is None else Path(cache)

    @property
    def label_names(self) -> tuple[str, ...]:  # type: ignore[override]  # known to the files alone
        """The models, `car_001` and so on, in alphabetical order."""
        return tuple(path.stem.removesuffix("_mesh") for path in self._paths)

    @property
    def factor_sizes(self) -> tuple[int, ...]:  # type: ignore[override]  # known to the files alone
        """Of `factor_names`."""
        return ELEVATIONS, AZIMUTHS, len(self._paths)

    def splits(self) -> Splits:
        """Map the shrunk images, which are shrunk first if they are not there.

        Raises:
            DataError: If the folder or a file is missing or broken, or scipy is.
        """
        count = len(self._paths)
        view = np.tile(np.arange(_VIEWS), count)
        model = np.repeat(np.arange(count), _VIEWS)
        elevation, azimuth = view // AZIMUTHS, view % AZIMUTHS
        angle = 2 * np.pi / AZIMUTHS * azimuth
        targets = [elevation / (ELEVATIONS - 1), np.cos(angle), np.sin(angle)]
        known = Known(
            model,
            view,
            np.stack(targets, axis=1).astype(np.float32),
            np.stack([elevation, azimuth, model], axis=1),
        )
        held_out = held_out_classes(self.test_classes, self.label_names, self.seed)
        parts = class_splits(
            known.labels, held_out, valid=self.valid, test=self.test, seed=self.seed
        )
        settings = {"files": files_stamp(self._paths), "recipe": 1}
        return self._mapped(known, parts, self._write, settings)

    @cached_property
    def _paths(self) -> list[Path]:
        """The files of the models that `list.txt` names, or of all without it."""
        if not self.folder.is_dir():
            raise missing_folder(self.folder, self.name, "the folder data/cars of its release")
        paths = sorted(self.folder.glob("*.mat"))
        listed = self.folder / "list.txt"
        if listed.is_file():
            names = listed.read_text(encoding="utf-8", errors="replace").split()
            missing = sorted(set(names) - {path.stem for path in paths})
            if missing:
                files = a_few([f"{name}.mat" for name in missing])
                raise DataError(
                    f"{self.folder} lacks {len(missing)} of the {len(names)} models that list.txt "
                    f"names ({files}); unpack the release again"
                )
            paths = [path for path in paths if path.stem in names]
        if not paths:
            raise DataError(
                f"{self.folder} has no MATLAB file car_NNN_mesh.mat; name the folder data/cars of "
                f"the release of {self.name}"
            )
        return paths

    def _write(self, images: Bytes, places: _Rows) -> None:
        scipy_io(_EXPECTED)  # its absence is found here, before processes are started

        def shrink(model: int) -> None:
            where = places[model * _VIEWS : (model + 1) * _VIEWS]
            kept = where >= 0
            # the processes share the mapped file: each writes its images where they belong
            images[where[kept]] = _read_model(self._paths[model], self.image_shape[-1])[kept]

        title = f"{self.name}, shrunk once into {self.cache}: models"
        models = for_each_row(shrink, len(self._paths))
        for _ in announced(models, len(self._paths), title, to_stderr):
            pass


def _read_model(path: Path, size: int) -> Bytes:
    """All views of a model in the order of contents, shape (96, 3, size, size)."""
    from PIL import Image

    pixels = read_matlab(path, "im", expected=_EXPECTED)
    wanted = (SIDE, SIDE, 3, AZIMUTHS, ELEVATIONS)
    if pixels.shape != wanted or pixels.dtype != np.uint8:
        raise DataError(
            f"{path}: the array im has shape {pixels.shape} and type {pixels.dtype}, wanted "
            f"{wanted} and uint8"
        )
    views = pixels.transpose(4, 3, 0, 1, 2).reshape(_VIEWS, SIDE, SIDE, 3)
    small = [
        np.asarray(Image.fromarray(view).resize((size, size), Image.Resampling.LANCZOS))
        for view in np.ascontiguousarray(views)
    ]
    return np.stack(small).transpose(0, 3, 1, 2)
