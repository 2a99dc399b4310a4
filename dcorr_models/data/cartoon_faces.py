"""Cartoon faces with known attributes: CelebA's place where CelebA is not at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.attribute_names import chosen_attributes, nearest
from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.cartoon_rendering import (
    HAIR_COLOURS,
    SKIN_COLOURS,
    check_packages,
    draw_face,
)
from dcorr_models.data.image_cache import (
    Bytes,
    cache_path,
    cached_images,
    default_cache_folder,
)
from dcorr_models.data.parallel import announced, for_each_row, to_stderr
from dcorr_models.data.splitting import check_seed
from dcorr_models.errors import DataError

__all__ = ["ATTRIBUTES", "VARIATIONS", "CartoonFaces"]

_Integers = npt.NDArray[np.int64]

ATTRIBUTES = (
    "Eyeglasses",
    "Smiling",
    "Mouth_Slightly_Open",
    "Mustache",
    "Beard",
    "Arched_Eyebrows",
    "Eyes_Closed",
    "Blond_Hair",
    "Long_Hair",
    "Wavy_Hair",
    "Pale_Skin",
    "Rosy_Cheeks",
    "Wearing_Hat",
    "Wearing_Earrings",
    "Wearing_Necktie",
    "Dark_Background",
)
VARIATIONS = {
    "hair_colour": len(HAIR_COLOURS),
    "skin_colour": len(SKIN_COLOURS),
    "background": 4,
    "clothes": 2,
    "clothes_colour": 8,
    "hat_colour": 8,
    "glasses": 2,
    "eyes": 2,
    "mouth": 2,
}
# how many of the colours, from the first on, go with the attribute being 0
_DARK_HAIR, _DARK_SKIN = HAIR_COLOURS.index("golden"), SKIN_COLOURS.index("light")
_CLASSES = {"hair_colour": HAIR_COLOURS, "skin_colour": SKIN_COLOURS}
# changes whenever the same choices give other pixels, so that old caches are not taken
_DRAWING = 1
_DRAWN_AT_ONCE = 1024


class CartoonFaces(DataSource):
    """Drawn faces with 16 binary attributes: 64x64 colour images in [-1, 1].

    Each attribute is present in half of the images and, unless `correlations` says otherwise,
    independent of all others. The attributes carry CelebA's names where CelebA has them. Beside
    them vary the shade of hair (7, two of them blond) and skin (5, two of them pale), the colours
    of background, clothes and hat, and the kind of glasses, eyes, mouth and clothes: what a
    residual code has to hold. No face occurs twice, so the splits are disjoint; another size of
    the training split leaves the other two as they are.

    The images are drawn once, into a file in `cache`, and mapped into memory from then on. It
    needs the extra `avatars`.

    Args:
        train: Number of training images.
        valid: Number of validation images.
        test: Number of test images.
        seed: Of the choice of faces, from 0 to 2**32 - 1.
        attributes: Which attributes are the labels; all 16 by default. The others vary all the
            same.
        labels: "attributes", or "hair_colour" or "skin_colour" as exclusive classes.
        correlations: Wanted correlation of pairs of attributes, such as `{"Beard+Mustache": 0.8}`:
            the attributes are the signs of Gaussians with the correlations sin(π/2 · r), for which
            those of the signs are exactly r.
        cache: Folder for the drawn images; a folder in the user's cache by default.

    Reference:
        Drawings: avataaars by Pablo Stanley, in the package python-avatars. Signs of correlated
        Gaussians: Sheppard 1899.
    """

    name: ClassVar[str] = "cartoon faces"
    image_shape = (3, 64, 64)
    value_range = (-1.0, 1.0)
    factor_names = (*ATTRIBUTES, *VARIATIONS)
    factor_sizes = (*(2 for _ in ATTRIBUTES), *VARIATIONS.values())

    def __init__(
        self,
        train: int = 6000,
        valid: int = 500,
        test: int = 1000,
        seed: int = 0,
        attributes: list[str] | None = None,
        labels: Literal["attributes", "hair_colour", "skin_colour"] = "attributes",
        correlations: dict[str, float] | None = None,
        cache: str | Path | None = None,
    ) -> None:
        if train < 1 or valid < 0 or test < 0:
            raise DataError(
                "the splits need train >= 1, valid >= 0 and test >= 0, "
                f"got train={train}, valid={valid}, test={test}"
            )
        if labels not in ("attributes", *_CLASSES):
            raise DataError(
                f"labels must be 'attributes', 'hair_colour' or 'skin_colour', got {labels!r}"
            )
        check_seed(seed)
        self.sizes = (train, valid, test)
        self.seed = seed
        self.labels = labels
        self.correlations = correlations or {}
        self.cache = default_cache_folder() if cache is None else Path(cache)
        self.multilabel = labels == "attributes"
        if attributes is not None and not self.multilabel:
            raise DataError(f"attributes are chosen, but the labels are {labels}: leave one out")
        self.label_names = (
            chosen_attributes(attributes, ATTRIBUTES, self.name)
            if self.multilabel
            else _CLASSES[labels]
        )
        self._root = _gaussian_root(self.correlations)

    def splits(self) -> Splits:
        """Map the drawn images, which are drawn first if they are not there.

        Raises:
            DataError: If the packages that draw are missing, or the cache cannot be written.
        """
        images = torch.from_numpy(self._images(to_stderr))
        return Splits(
            *(
                LabelledImages(
                    images[rows],
                    self._labels(factors),
                    value_range=self.value_range,
                    factors=torch.from_numpy(factors),
                )
                for rows, factors in zip(self._rows(), self.factors(), strict=True)
            )
        )

    def factors(self) -> tuple[_Integers, _Integers, _Integers]:
        """All that was chosen for each face, beyond what the labels say.

        Returns:
            For the training, validation and test split an int64 array of shape (N, 25): a column
            for each of `factor_names`. A variation that does not show, such as the colour of a
            hat that is not worn, is 0.
        """
        choices = self._choices()
        train, valid, test = (choices[rows] for rows in self._rows())
        return train, valid, test

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Draw the faces, so that a training finds them.

        Args:
            mirror: Must be left out: nothing is downloaded.
            say: Takes each line of progress.

        Raises:
            DataError: As from `splits`, or if a mirror is named.
        """
        if mirror is not None:
            raise DataError(f"{self.name} downloads nothing; leave the mirror {mirror} out")
        images = self._images(say)
        say(f"{self.name}: {len(images)} faces in {self._path()}")

    def _labels(self, factors: _Integers) -> torch.Tensor:
        if not self.multilabel:
            return torch.from_numpy(factors[:, self.factor_names.index(self.labels)].copy())
        columns = [self.factor_names.index(name) for name in self.label_names]
        return torch.from_numpy(factors[:, columns].astype(np.float32))

    def _rows(self) -> tuple[slice, slice, slice]:
        """Where the splits lie: the test split comes first, so that its faces never change."""
        train, valid, test = self.sizes
        return (
            slice(test + valid, test + valid + train),
            slice(test, test + valid),
            slice(0, test),
        )

    def _choices(self) -> _Integers:
        """The factors of all faces, shape (N, 25), no row twice."""
        wanted = sum(self.sizes)
        random = np.random.RandomState(self.seed)
        found: dict[tuple[int, ...], None] = {}
        for _ in range(100 + 10 * wanted // _DRAWN_AT_ONCE):
            found.update(dict.fromkeys(map(tuple, self._draw(random).tolist())))
            if len(found) >= wanted:
                return np.array(list(found)[:wanted], dtype=np.int64)
        raise DataError(
            f"there are not {wanted} different {self.name} with these correlations: "
            "ask for fewer images or weaker correlations"
        )

    def _draw(self, random: np.random.RandomState) -> _Integers:
        gaussians = random.standard_normal((_DRAWN_AT_ONCE, len(ATTRIBUTES)))
        uniforms = random.random_sample((_DRAWN_AT_ONCE, len(VARIATIONS)))
        present = gaussians @ self._root > 0 if self.correlations else gaussians > 0
        with_attribute = dict(zip(ATTRIBUTES, present.T, strict=True))
        columns = dict(zip(VARIATIONS, uniforms.T, strict=True))
        for name, count in VARIATIONS.items():
            columns[name] = np.floor(columns[name] * count)
        for name, attribute, dark in (
            ("hair_colour", "Blond_Hair", _DARK_HAIR),
            ("skin_colour", "Pale_Skin", _DARK_SKIN),
        ):
            share = uniforms[:, list(VARIATIONS).index(name)]
            light = dark + np.floor(share * (VARIATIONS[name] - dark))
            columns[name] = np.where(with_attribute[attribute], light, np.floor(share * dark))
        # what does not show is 0: two faces that look the same must have the same factors
        columns["clothes"] *= ~with_attribute["Wearing_Necktie"]
        columns["hat_colour"] *= with_attribute["Wearing_Hat"]
        columns["glasses"] *= with_attribute["Eyeglasses"]
        columns["mouth"] *= with_attribute["Mouth_Slightly_Open"]
        return np.column_stack([present, *columns.values()]).astype(np.int64)

    def _path(self) -> Path:
        versions = {name: metadata.version(name) for name in ("python-avatars", "resvg-py")}
        settings = {
            "sizes": self.sizes,
            "seed": self.seed,
            "correlations": self.correlations,
            "drawing": _DRAWING,
            **versions,
        }
        return cache_path(self.cache, "cartoon-faces", settings)

    def _images(self, say: Callable[[str], None]) -> Bytes:
        check_packages()
        shape = (sum(self.sizes), *self.image_shape)
        return cached_images(self._path(), shape, lambda images: self._fill(images, say)).images

    def _fill(self, images: Bytes, say: Callable[[str], None]) -> tuple[int, ...]:
        choices = self._choices().tolist()

        def draw(row: int) -> None:
            # the processes share the mapped file: each writes its images where they belong
            images[row] = draw_face(dict(zip(self.factor_names, choices[row], strict=True)))

        title = f"{self.name}, drawn once into {self.cache}"
        for _ in announced(for_each_row(draw, len(choices)), len(choices), title, say):
            pass
        return ()


def _gaussian_root(correlations: Mapping[str, float]) -> npt.NDArray[np.float64]:
    """The symmetric square root of the Gaussians' correlation matrix."""
    matrix, seen = np.eye(len(ATTRIBUTES)), set[tuple[int, int]]()
    for pair, wanted in correlations.items():
        names = pair.split("+")
        if len(names) != 2 or names[0] == names[1]:
            raise DataError(
                f"correlations need two attributes joined by +, as in Beard+Mustache, got {pair!r}"
            )
        for name in names:
            if name not in ATTRIBUTES:
                raise DataError(
                    f"cartoon faces have no attribute {name!r}{nearest(name, ATTRIBUTES)}"
                )
        if not -1 <= wanted <= 1:
            raise DataError(f"the correlation of {pair} must be from -1 to 1, got {wanted}")
        i, j = (ATTRIBUTES.index(name) for name in names)
        if (i, j) in seen:
            raise DataError(f"{names[0]} and {names[1]} have two correlations: leave one out")
        seen |= {(i, j), (j, i)}
        matrix[i, j] = matrix[j, i] = np.sin(np.pi / 2 * wanted)
    values, vectors = np.linalg.eigh(matrix)
    if values.min() < -1e-9:
        raise DataError(
            f"no distribution has all of the correlations {dict(correlations)} at once: "
            "weaken one of them"
        )
    # unlike a triangular root, this one does not depend on the signs of the eigenvectors
    root: npt.NDArray[np.float64] = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return root
