"""5,000 real MNIST digits inside the package, so that a first run needs no download.

The digits are training images of MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges;
`DIGITS.md` beside the archive has the credit and says how it was made.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.mnist import MNIST
from dcorr_models.data.splitting import check_seed, shuffled_order, stratified_order
from dcorr_models.errors import DataError

__all__ = ["BundledDigits", "build_archive", "load_archive"]

_Bytes = npt.NDArray[np.uint8]

ARCHIVE = Path(__file__).with_name("digits.npz")
_CONTENT_SHA256 = "66c814b142bd9ef8ca57dd648cec02544194d9de7150a16668d07ae6cb8b8e79"
_CREDIT = (
    "From the training images of MNIST, the database of handwritten digits by Yann LeCun, "
    "Corinna Cortes and Christopher J. C. Burges, derived from NIST Special Databases 1 and 3. "
    "500 images of each class, chosen at random with a seed."
)


class BundledDigits(DataSource):
    """5,000 real MNIST digits that come with the package: 28x28 grey images in [0, 1].

    Each class is there 500 times. The splits are disjoint, drawn with the seed, and stratified:
    the classes of each split are equally frequent, give or take one image.

    Args:
        train: Number of training images.
        valid: Number of validation images.
        test: Number of test images; the three add up to 5,000 at most.
        seed: Seed of the splits, from 0 to 2**32 - 1.

    Reference:
        LeCun, Cortes and Burges, The MNIST database of handwritten digits.

    Example:
        >>> splits = BundledDigits().splits()
        >>> [len(split) for split in splits]
        [4000, 200, 800]
        >>> splits.test.labels.bincount().tolist()
        [80, 80, 80, 80, 80, 80, 80, 80, 80, 80]
    """

    name: ClassVar[str] = "5,000 MNIST digits"
    image_shape = (1, 28, 28)
    label_names = tuple("0123456789")

    def __init__(self, train: int = 4000, valid: int = 200, test: int = 800, seed: int = 0) -> None:
        if train < 1 or valid < 0 or test < 0 or train + valid + test > 5000:
            raise DataError(
                "the splits need train >= 1, valid >= 0, test >= 0 and 5000 images at most, "
                f"got train={train}, valid={valid}, test={test}"
            )
        check_seed(seed)
        self.sizes = (train, valid, test)
        self.seed = seed

    def splits(self) -> Splits:
        """Unpack the digits and cut the three splits.

        Raises:
            DataError: If the archive in the package is missing or broken.
        """
        images, labels = load_archive(ARCHIVE)
        order = stratified_order(labels, self.seed)
        train, valid, test, _ = np.split(order, np.cumsum(self.sizes))
        all_images = torch.from_numpy(images).unsqueeze(1)
        all_labels = torch.from_numpy(labels.astype(np.int64))
        return Splits(
            *(
                LabelledImages(all_images[part], all_labels[part], value_range=self.value_range)
                for part in map(torch.from_numpy, (train, valid, test))
            )
        )


def load_archive(path: Path, *, sha256: str = _CONTENT_SHA256) -> tuple[_Bytes, _Bytes]:
    """Read an archive of digits and check its content.

    Args:
        path: The `.npz` file, as `build_archive` writes it.
        sha256: SHA-256 of the bytes of the images followed by those of the labels.

    Returns:
        Images (N, 28, 28) and labels (N,), both uint8.

    Raises:
        DataError: If the file is missing, broken, or of another content.
    """
    way_out = "install the package again"
    try:
        with np.load(path, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
    except FileNotFoundError as error:
        raise DataError(f"the bundled digits {path} are missing; {way_out}") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"the bundled digits {path} cannot be read ({error}); {way_out}") from error
    if (found := _content_sha256(images, labels)) != sha256:
        raise DataError(
            f"the bundled digits {path} fail their checksum: SHA-256 {found[:12]}... of the "
            f"content, wanted {sha256[:12]}...; {way_out}"
        )
    return images, labels


def build_archive(
    mnist_folder: str | Path,
    path: str | Path,
    *,
    per_class: int = 500,
    seed: int = 0,
    verify: bool = True,
) -> str:
    """Choose digits from MNIST's training file and write the archive; how the bundled one was made.

    The training file is shuffled, the first `per_class` images of each class are taken and
    shuffled again; the same seed gives the same archive.

    Args:
        mnist_folder: Folder with the IDX files of MNIST.
        path: The `.npz` file to write; it must not exist.
        per_class: Number of images of each of the ten classes.
        seed: Seed of the choice.
        verify: Refuse files that are not the published MNIST.

    Returns:
        SHA-256 of the content, for `load_archive`.

    Raises:
        DataError: If MNIST cannot be read, a class has too few images, or `path` exists.
    """
    path = Path(path)
    if path.exists():
        raise DataError(f"{path} exists and is not overwritten; move it away first")
    release = MNIST(mnist_folder, split="release", verify=verify).splits()
    # the release's training file in its own order is the training split, then the validation one
    images = torch.cat([release.train.images, release.valid.images]).squeeze(1).numpy()
    labels = torch.cat([release.train.labels, release.valid.labels]).numpy().astype(np.uint8)
    chosen = _choose(labels, per_class, seed)
    images, labels = images[chosen], labels[chosen]
    with path.open("xb") as file:
        np.savez_compressed(file, images=images, labels=labels, credit=np.array(_CREDIT))
    return _content_sha256(images, labels)


def _choose(labels: _Bytes, per_class: int, seed: int) -> npt.NDArray[np.int64]:
    shuffled = shuffled_order(len(labels), seed)
    members = [shuffled[labels[shuffled] == digit][:per_class] for digit in range(10)]
    fewest = min(members, key=len)
    if len(fewest) < per_class:
        raise DataError(
            f"a class of MNIST's training file has {len(fewest)} images, wanted {per_class}"
        )
    balanced = np.concatenate(members)
    return balanced[stratified_order(labels[balanced], seed)]


def _content_sha256(images: _Bytes, labels: _Bytes) -> str:
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
