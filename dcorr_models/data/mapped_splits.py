"""Splits of images whose classes and contents are known, kept in one mapped file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dcorr_models.data.base import DataSource, LabelledImages, Splits
from dcorr_models.data.class_splits import require_two_images
from dcorr_models.data.image_cache import Bytes, cache_path, cached_images
from dcorr_models.errors import DataError

__all__ = ["Known", "MappedSource", "files_stamp", "missing_folder"]

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """What is known of all images of a data set.

    Args:
        labels: Class of each, int64 of shape (N,).
        content: Content of each, int64 of shape (N,).
        targets: The factors' values, of shape (N, T).
        factors: The factors' levels, int64 of shape (N, F).
    """

    labels: _Rows
    content: _Rows
    targets: npt.NDArray[np.float32]
    factors: _Rows


class MappedSource(DataSource):
    """A data set of files that no program can download, kept in a cache of its own format."""

    folder: Path
    """Folder of the files."""
    cache: Path
    """Folder of the cache."""

    def prepare(self, *, mirror: str | None = None, say: Callable[[str], None] = print) -> None:
        """Write the images into the cache, so that a training finds them.

        Args:
            mirror: Must be left out: nothing is downloaded.
            say: Takes each line of progress.

        Raises:
            DataError: As from `splits`, or if a mirror is named.
        """
        if mirror is not None:
            raise DataError(
                f"{self.name} is not downloaded; leave the mirror {mirror} out and put the files "
                f"of the release into {self.folder}"
            )
        parts = self.splits()
        say(f"{self.name}: {' + '.join(str(len(s)) for s in parts)} images ready in {self.cache}")

    def _mapped(
        self,
        known: Known,
        parts: Sequence[_Rows],
        write: Callable[[Bytes, _Rows], None],
        settings: Mapping[str, Any],
    ) -> Splits:
        """The splits, each of them one stretch of a file that is written at the first use.

        `write` takes the array of the kept images, and for each of the N rows its place in it or
        -1, and writes all images that are kept. `settings` decide what an image looks like.
        """
        require_two_images(
            known.labels[parts[0]],
            self.label_names,
            place=self.name,
            way_out="hold out smaller shares",
        )
        order = np.concatenate(parts)
        places = np.full(len(known.labels), -1, dtype=np.int64)
        places[order] = np.arange(len(order))

        def fill(images: Bytes) -> tuple[int, ...]:
            write(images, places)
            return ()

        digest = hashlib.sha256(order.tobytes()).hexdigest()
        file_name = self.name.lower().replace(" ", "-")
        path = cache_path(
            self.cache, file_name, {**settings, "shape": self.image_shape, "order": digest}
        )
        images = cached_images(path, (len(order), *self.image_shape), fill).images
        splits, first = [], 0
        for part in parts:
            splits.append(
                LabelledImages(
                    torch.from_numpy(images[first : first + len(part)]),
                    torch.from_numpy(known.labels[part]),
                    value_range=self.value_range,
                    content=torch.from_numpy(known.content[part]),
                    targets=torch.from_numpy(known.targets[part]),
                    factors=torch.from_numpy(known.factors[part]),
                )
            )
            first += len(part)
        return Splits(*splits)


def missing_folder(folder: Path, name: str, wanted: str) -> DataError:
    """The error about a folder that is not there."""
    return DataError(f"the folder {folder} for {name} does not exist; put {wanted} there")


def files_stamp(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Names, sizes and times of change: another file of the same name gives another cache."""
    stats = [path.stat() for path in paths]
    return [
        (path.name, stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)
    ]
