"""CelebA from the files of its release: 202,599 faces, 40 attributes, 10,177 people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.attribute_names import chosen_attributes
from dcorr_models.data.base import DataSource, Splits
from dcorr_models.data.celeba_crops import CROPS, crop_image
from dcorr_models.data.celeba_files import (
    ATTRIBUTES,
    NUM_IDENTITIES,
    find_images,
    read_attributes,
    read_numbers,
)
from dcorr_models.data.image_cache import Bytes, CachedImages, default_cache_folder
from dcorr_models.data.image_files import (
    ImageFiles,
    cut_splits,
    decoded_images,
    find_broken,
    open_picture,
)
from dcorr_models.data.parallel import to_stderr
from dcorr_models.data.splitting import check_seed, shuffled_order
from dcorr_models.errors import DataError

__all__ = ["CelebA"]

_Rows = npt.NDArray[np.int64]


class CelebA(DataSource):
    """202,599 aligned photographs of celebrities with 40 binary attributes, cut to size x size.

    The folder holds the files of the release: the folder `img_align_celeba` or
    `img_align_celeba.zip`, which is read without unpacking, `list_attr_celeba.txt`, for the
    official split `list_eval_partition.txt`, and for identities `identity_CelebA.txt`. They cannot
    be downloaded by a program. The first use decodes all images into a file of bytes in `cache`
    (2.5 GB at 64 x 64), which is mapped into memory from then on; another crop, size or split is
    another file.

    Args:
        folder: Folder of the release.
        crop: What is cut out and how it is shrunk. "cdnet": 148 x 148 by a blur and bicubic
            interpolation, as CDNet's published code; "mddae": the whole image; "icgan": 138 x 138;
            "id_gan": the central 160 x 160, in [0, 1]; "lord": the central 128 x 128, in [0, 1];
            "stargan": the central 178 x 178, which StarGAN shrinks to 128.
        size: Side of the images in pixels.
        attributes: Which attributes are the labels, in this order; all 40 by default.
        labels: "attributes", or "identity" for 10,177 exclusive classes.
        split: "official": the release's own partition, 162,770 / 19,867 / 19,962 images;
            "paper": 80, 10 and 10 per cent at random, as CDNet and mddAE write; "identity": the
            images of 1,000 people drawn at random test, and no other image validates (LORD);
            "all": every image trains, the official test images too, which then measure no
            generalisation (ID-GAN's code).
        seed: Of the random splits, from 0 to 2**32 - 1.
        skip_corrupt: Leave out image files that are broken, and say how many, instead of stopping.
        cache: Folder for the decoded images; a folder in the user's cache by default.

    Reference:
        Liu, Luo, Wang and Tang, Deep learning face attributes in the wild, 2015.
    """

    name: ClassVar[str] = "CelebA"
    test_identities: ClassVar[int] = 1000
    """How many people test in the split "identity"; of few people at most one in ten do."""

    def __init__(
        self,
        folder: str | Path = "data/celeba",
        crop: Literal["cdnet", "mddae", "icgan", "id_gan", "lord", "stargan"] = "cdnet",
        size: int = 64,
        attributes: list[str] | None = None,
        labels: Literal["attributes", "identity"] = "attributes",
        split: Literal["official", "paper", "identity", "all"] = "official",
        seed: int = 0,
        skip_corrupt: bool = False,
        cache: str | Path | None = None,
    ) -> None:
        for argument, value, known in (
            ("crop", crop, tuple(CROPS)),
            ("labels", labels, ("attributes", "identity")),
            ("split", split, ("official", "paper", "identity", "all")),
        ):
            if value not in known:
                raise DataError(f"{argument} must be one of {', '.join(known)}, got {value!r}")
        if size < 1:
            raise DataError(f"size must be 1 or more, got {size}")
        check_seed(seed)
        self.multilabel = labels == "attributes"
        if attributes is not None and not self.multilabel:
            raise DataError("attributes are chosen, but the labels are identities: leave one out")
        self.folder = Path(folder)
        self.crop, self.size = crop, size
        self.labels, self.split, self.seed = labels, split, seed
        self.skip_corrupt = skip_corrupt
        self.cache = default_cache_folder() if cache is None else Path(cache)
        self.image_shape = (3, size, size)
        self.value_range = CROPS[crop].value_range
        self.label_names = (
            chosen_attributes(attributes, ATTRIBUTES, self.name)
            if self.multilabel
            else tuple(str(number + 1) for number in range(NUM_IDENTITIES))
        )

    def splits(self) -> Splits:
        """Map the decoded images, which are decoded first if they are not there.

        Raises:
            DataError: If a file of the release is missing, broken or not what it should be; the
                message names it, the line, and the way out.
        """
        return self._splits(to_stderr)

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Decode the images into the cache, so that a training finds them.

        Args:
            mirror: Must be left out: CelebA is not downloaded.
            say: Takes each line of progress.

        Raises:
            DataError: As from `splits`, or if a mirror is named.
        """
        if mirror is not None:
            raise DataError(
                f"CelebA is not downloaded; leave the mirror {mirror} out and put the files of "
                f"the release into {self.folder}"
            )
        splits = self._splits(say)
        say(f"CelebA: {' + '.join(str(len(s)) for s in splits)} images ready in {self.cache}")

    def check_files(self, *, say: Callable[[str], None] = print) -> None:
        """Decode every image file and name those that are broken.

        Args:
            say: Takes each line of progress, and one for each broken file.

        Raises:
            DataError: If a file is missing or broken.
        """
        names, _ = read_attributes(self.folder)
        files = find_images(self.folder, names)
        find_broken(files, lambda row: self._decode(files.read(row)), name=self.name, say=say)

    def _splits(self, say: Callable[[str], None]) -> Splits:
        names, attributes = read_attributes(self.folder)
        parts = self._parts(names)
        # in the order of the splits, so that each of them is one stretch of the mapped file
        order = np.concatenate(parts)
        cached = self._images(find_images(self.folder, [names[row] for row in order]), say)
        return cut_splits(cached, parts, self._labels(names, attributes), self.value_range)

    def _parts(self, names: Sequence[str]) -> list[_Rows]:
        """The rows of the attribute file that train, validate and test."""
        if self.split in ("official", "all"):
            part = read_numbers(self.folder, "list_eval_partition.txt", names, 0, 2)
            rows = [np.flatnonzero(part == number) for number in range(3)]
            if self.split == "official":
                return rows
            return [np.arange(len(names)), np.empty(0, np.int64), rows[2]]
        if self.split == "identity":
            people = self._identities(names)
            distinct = np.unique(people)
            count = min(self.test_identities, len(distinct) // 10)
            held_out = distinct[shuffled_order(len(distinct), self.seed)[:count]]
            test = np.isin(people, held_out)
            return [np.flatnonzero(~test), np.empty(0, np.int64), np.flatnonzero(test)]
        order = shuffled_order(len(names), self.seed)
        train, valid = len(order) * 8 // 10, len(order) // 10
        return np.split(order, [train, train + valid])

    def _identities(self, names: Sequence[str]) -> _Rows:
        return read_numbers(self.folder, "identity_CelebA.txt", names, 1, NUM_IDENTITIES)

    def _labels(self, names: Sequence[str], attributes: Bytes) -> torch.Tensor:
        if not self.multilabel:
            return torch.from_numpy(self._identities(names) - 1)
        columns = [ATTRIBUTES.index(name) for name in self.label_names]
        return torch.from_numpy(attributes[:, columns].astype(np.float32))

    def _images(self, files: ImageFiles, say: Callable[[str], None]) -> CachedImages:
        return decoded_images(
            files,
            lambda row: self._decode(files.read(row)),
            self.image_shape,
            name="celeba",
            settings={"crop": self.crop, "size": self.size, "recipe": 1},
            cache=self.cache,
            skip_corrupt=self.skip_corrupt,
            say=say,
        )

    def _decode(self, content: bytes) -> Bytes:
        return crop_image(open_picture(content), CROPS[self.crop], self.size)
