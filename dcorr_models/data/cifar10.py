"""CIFAR-10 from its official batches, binary or Python's: 60,000 small photographs."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.mapped_splits import missing_folder
from dcorr_models.errors import DataError

__all__ = ["CIFAR10"]

_Bytes = npt.NDArray[np.uint8]
_PIXELS = 3 * 32 * 32
_RECORD = 1 + _PIXELS  # the binary files: a byte for the class, then the planes of red, green, blue
_RECORDS = 10_000  # of each file
_FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py")


class CIFAR10(DataSource):
    """The 60,000 photographs of CIFAR-10, 32x32 in colour, ten classes.

    The folder holds the six batches of one of the two releases, or the folder that its archive
    unpacks to: `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` (the binary version),
    or the same names without `.bin` (Python's).

    Args:
        folder: Folder of the batches.
        split: "official": the last `valid` images of the training files validate, the others train,
            the test file tests. "release": all 60,000 train, as Lr-LiVAE's published code does;
            none validates, and the test images are then *not held out*.
        valid: Images that validate, of the "official" split.
        signed: Whether the float images are in [-1, 1], for a decoder that ends in tanh, or in
            [0, 1].
        verify: Refuse files that are not the published ones: another number of images, Python's
            batches with another MD5, or classes that are not equally frequent. Set it to false for
            32x32 data of your own in either format.

    Raises:
        DataError: An unknown split, or a negative number.

    Reference:
        Krizhevsky, Learning multiple layers of features from tiny images, 2009. The "release"
        split: Zheng and Sun 2019 (Lr-LiVAE), published code.
    """

    name: ClassVar[str] = "CIFAR-10"
    image_shape = (3, 32, 32)
    label_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    # MD5 of Python's batches; the site prints none of the binary ones
    files: ClassVar[dict[str, str]] = {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    }

    def __init__(
        self,
        folder: str | Path = "data/cifar10",
        split: Literal["official", "release"] = "official",
        valid: int = 5_000,
        signed: bool = True,
        verify: bool = True,
    ) -> None:
        if split not in ("official", "release"):
            raise DataError(f"split must be 'official' or 'release', got {split!r}")
        if valid < 0:
            raise DataError(f"valid must be 0 or more, got {valid}")
        self.folder, self.split, self.valid = Path(folder), split, valid
        self.signed, self.verify = signed, verify
        self.value_range = (-1.0, 1.0) if signed else (0.0, 1.0)

    def splits(self) -> Splits:
        """Read the six batches and cut them as `split` says.

        Raises:
            DataError: A folder or a file that is missing, unreadable, broken or not the published
                one; the message names it and the way out.
        """
        paths = self._find_files()
        *batches, test = [self._read(path) for path in paths]
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        if self.verify:
            self._check_classes(labels, "the training batches")
            self._check_classes(test[1], "the test batch")
        if self.split == "release":
            everything = (np.concatenate([images, test[0]]), np.concatenate([labels, test[1]]))
            nothing = (images[:0], labels[:0])
            return Splits(*(self._labelled_images(*p) for p in (everything, nothing, test)))
        cut = len(images) - self.valid
        if cut < 1:
            raise DataError(
                f"valid asks for {self.valid} of the {len(images)} training images of {self.name}: "
                "leave some to train on"
            )
        parts = ((images[:cut], labels[:cut]), (images[cut:], labels[cut:]), test)
        return Splits(*(self._labelled_images(*part) for part in parts))

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Check the files; nothing is downloaded.

        Args:
            mirror: Must be left out.
            say: Takes each line of progress.

        Raises:
            DataError: As from `splits`, or if a mirror is named.
        """
        if mirror is not None:
            raise DataError(
                f"{self.name} is not downloaded; leave the mirror {mirror} out and unpack "
                f"cifar-10-binary.tar.gz or cifar-10-python.tar.gz into {self.folder}"
            )
        self.check_files(say=say)

    def _find_files(self) -> list[Path]:
        archive = "cifar-10-binary.tar.gz or cifar-10-python.tar.gz, unpacked,"
        if not self.folder.is_dir():
            raise missing_folder(self.folder, self.name, archive)
        places = [
            (self.folder / name, ending) for name in _FOLDERS for ending in (".bin", "")
        ]  # the binary version first: reading it runs no code of a file
        found = {
            place: [place[0] / f"{stem}{place[1]}" for stem in self.files]
            for place in places
            if any((place[0] / f"{stem}{place[1]}").is_file() for stem in self.files)
        }
        whole = [paths for paths in found.values() if all(path.is_file() for path in paths)]
        if whole:
            return whole[0]
        if not found:
            raise DataError(
                f"{self.folder} has no batches of {self.name}: put {archive} there, with its files "
                "data_batch_1 to data_batch_5 and test_batch"
            )
        lacking = [path.name for path in next(iter(found.values())) if not path.is_file()]
        raise DataError(
            f"{next(iter(found))[0]} lacks {', '.join(lacking)} of {self.name}: unpack the archive "
            "again"
        )

    def _read(self, path: Path) -> tuple[_Bytes, _Bytes]:
        """Images (N, 3, 32, 32) and labels (N,) of a batch."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}") from error
        binary = path.suffix == ".bin"
        if self.verify and not binary:
            found = hashlib.md5(content, usedforsecurity=False).hexdigest()
            if found != self.files[path.name]:
                raise DataError(
                    f"{path} is not the published file (MD5 {found}, wanted "
                    f"{self.files[path.name]}): unpack the archive again, or set verify to false"
                )
        images, labels = (_from_binary if binary else _from_pickle)(path, content)
        if self.verify and len(images) != _RECORDS:
            raise DataError(
                f"{path} holds {len(images)} images, the published file {_RECORDS}: unpack the "
                "archive again, or set verify to false"
            )
        highest = len(self.label_names) - 1
        if len(labels) and labels.max() > highest:
            raise DataError(f"{path} has the label {labels.max()}, wanted 0 to {highest}")
        return images, labels

    def _check_classes(self, labels: _Bytes, place: str) -> None:
        counts = np.bincount(labels, minlength=len(self.label_names))
        if len(set(counts.tolist())) > 1:
            raise DataError(
                f"{place} in {self.folder} have from {counts.min()} to {counts.max()} images of a "
                "class, and the published ones equally many: unpack the archive again, or set "
                "verify to false"
            )

    def _labelled_images(self, images: _Bytes, labels: _Bytes) -> LabelledImages:
        return LabelledImages(
            torch.from_numpy(images.copy()),
            torch.from_numpy(labels.astype(np.int64)),
            value_range=self.value_range,
        )


def _from_binary(path: Path, content: bytes) -> tuple[_Bytes, _Bytes]:
    if not content or len(content) % _RECORD:
        raise DataError(
            f"{path} has {len(content)} bytes, which are no whole images of {_RECORD} bytes: it is "
            "cut off or of another kind; unpack the archive again"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0]


def _from_pickle(path: Path, content: bytes) -> tuple[_Bytes, _Bytes]:
    try:
        batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
        images, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
    # a broken pickle may raise nearly anything
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a batch ({reason}): unpack the archive again"
        ) from error
    shapes = images.shape == (len(images), _PIXELS) and labels.shape == (len(images),)
    if not shapes or images.dtype != np.uint8 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{path} holds {images.dtype} of shape {images.shape} and {labels.dtype} labels of "
            f"shape {labels.shape}, wanted uint8 images (N, {_PIXELS}) with a label each"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() <= 255:
        raise DataError(f"{path} has labels from {labels.min()} to {labels.max()}")
    return images.reshape(-1, 3, 32, 32), labels.astype(np.uint8)


class _Unpickler(pickle.Unpickler):
    """Reads arrays, lists and strings, and refuses whatever else: a pickle may run any code."""

    # What NumPy itself names as the maker of an array, under any version's module.
    makers: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)  # how Python 3 writes bytes in old formats
        if (module, name) not in self.makers:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch needs")
        return self.makers[module, name]
