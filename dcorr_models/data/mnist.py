"""MNIST from its IDX files: 70,000 handwritten digits (LeCun, Cortes and Burges)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.download import fetch
from dcorr_models.data.files import content_sha256
from dcorr_models.data.idx import find_idx, read_idx
from dcorr_models.data.splitting import check_seed, shuffled_order
from dcorr_models.errors import DataError

__all__ = ["MNIST"]

_Bytes = npt.NDArray[np.uint8]


class MNIST(DataSource):
    """The 70,000 handwritten digits of MNIST, 28x28 grey images in [0, 1], ten classes.

    The folder holds the four IDX files of the release, `train-images-idx3-ubyte` and so on,
    gzipped or not, with a hyphen or a dot before `idx`. `prepare` downloads them.

    Args:
        folder: Folder with the four IDX files; `data/mnist` by default.
        split: "paper" shuffles all 70,000 images and takes 50,000 for training, 10,000 for
            validation and 10,000 for testing (CDNet's text). "release" trains on the first
            50,000 of the training file, validates on its last 10,000 and tests on the official
            test file (CDNet's published code).
        seed: Seed of the shuffle of the "paper" split, from 0 to 2**32 - 1.
        verify: Refuse files that are not the published ones. Set it to false for 28x28 data of
            your own in this format; a set of another size is split in the same proportions.

    Reference:
        LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document
        recognition, 1998. Splits: Song et al., CDNet, 2020, section IV-A, and its published code.
    """

    name: ClassVar[str] = "MNIST"
    image_shape = (1, 28, 28)
    label_names: tuple[str, ...] = tuple("0123456789")

    # the first that exists is taken, the first one if none does
    default_folders: ClassVar[tuple[str, ...]] = ("data/mnist",)
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    )
    # SHA-256 of the unzipped files
    files: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
        ),
        "train-labels-idx1-ubyte": (
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
        ),
        "t10k-images-idx3-ubyte": (
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
        ),
        "t10k-labels-idx1-ubyte": (
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
        ),
    }

    def __init__(
        self,
        folder: str | Path | None = None,
        split: Literal["paper", "release"] = "paper",
        seed: int = 0,
        verify: bool = True,
    ) -> None:
        if split not in ("paper", "release"):
            raise DataError(f"split must be 'paper' or 'release', got {split!r}")
        check_seed(seed)
        self.folder = self._default_folder() if folder is None else Path(folder)
        self.split = split
        self.seed = seed
        self.verify = verify

    def splits(self) -> Splits:
        """Read the four files and cut them as `split` says.

        Raises:
            DataError: If the folder or a file is missing, unreadable, broken or not the
                published one; the message names it and the way out.
        """
        paths = self._find_files()
        train, test = self._read_pair(paths, "train"), self._read_pair(paths, "t10k")
        if self.split == "release":
            cut = len(train[0]) * 5 // 6
            parts = [tuple(a[:cut] for a in train), tuple(a[cut:] for a in train), test]
        else:
            images, labels = (np.concatenate(pair) for pair in zip(train, test, strict=True))
            order = shuffled_order(len(images), self.seed)
            cuts = [len(order) * 5 // 7, len(order) * 5 // 7 + len(order) // 7]
            parts = [(images[part], labels[part]) for part in np.split(order, cuts)]
        return Splits(*(self._labelled_images(*part) for part in parts))

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Download the files that the folder lacks, and check those that it has.

        Args:
            mirror: Address of a folder with the four `.gz` files, in place of the public ones.
            say: Takes each line of progress.

        Raises:
            DataError: If a file cannot be fetched, or one that exists is not the published one,
                which is left untouched.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise DataError(f"{self.folder} is a file; name a folder to download {self.name} to")
        mirrors = self.mirrors if mirror is None else (mirror,)
        for stem, sha256 in self.files.items():
            path = find_idx(self.folder, stem)
            if path is None:
                say(f"{self.name}: downloading {stem}.gz")
                url = fetch(f"{stem}.gz", self.folder, sha256=sha256, mirrors=mirrors)
                say(f"{self.name}: {self.folder / stem}.gz from {url}, checksum right")
            elif content_sha256(path) == sha256:
                say(f"{self.name}: {path} is there, checksum right")
            else:
                raise DataError(
                    f"{path} is not the published file and is not overwritten; "
                    "move it away and prepare again"
                )

    @classmethod
    def _default_folder(cls) -> Path:
        folders = [Path(folder) for folder in cls.default_folders]
        return next((folder for folder in folders if folder.exists()), folders[0])

    def _find_files(self) -> dict[str, Path]:
        way_out = "run `python -m dcorr_models prepare` for it, or name the folder of its IDX files"
        if not self.folder.exists():
            raise DataError(f"the folder {self.folder} for {self.name} does not exist; {way_out}")
        if not self.folder.is_dir():
            raise DataError(f"{self.folder} is a file; name the folder that holds the IDX files")
        found = {stem: find_idx(self.folder, stem) for stem in self.files}
        missing = [stem for stem, path in found.items() if path is None]
        if missing:
            raise DataError(
                f"{self.folder} lacks {', '.join(missing)} (or .gz) of {self.name}; {way_out}"
            )
        return {stem: path for stem, path in found.items() if path is not None}

    def _read_pair(self, paths: dict[str, Path], kind: str) -> tuple[_Bytes, _Bytes]:
        image_stem, label_stem = f"{kind}-images-idx3-ubyte", f"{kind}-labels-idx1-ubyte"
        digests = self.files if self.verify else {}
        image_path, label_path = paths[image_stem], paths[label_stem]
        images = read_idx(image_path, ndim=3, sha256=digests.get(image_stem))
        labels = read_idx(label_path, ndim=1, sha256=digests.get(label_stem))
        if images.shape[1:] != self.image_shape[1:]:
            raise DataError(
                f"{image_path} holds images of {images.shape[1]} x {images.shape[2]} pixels, "
                f"wanted {self.image_shape[1]} x {self.image_shape[2]}"
            )
        if len(images) != len(labels):
            raise DataError(
                f"{image_path} has {len(images)} images, "
                f"but {label_path} has {len(labels)} labels; fetch both again"
            )
        highest = len(self.label_names) - 1
        if len(labels) and labels.max() > highest:
            raise DataError(f"{label_path} has the label {labels.max()}, wanted 0 to {highest}")
        return images, labels

    def _labelled_images(self, images: _Bytes, labels: _Bytes) -> LabelledImages:
        return LabelledImages(
            torch.from_numpy(images).unsqueeze(1),
            torch.from_numpy(labels.astype(np.int64)),
            value_range=self.value_range,
        )
