"""Tables with a row an image or a class, of which an update touches a few rows."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError

__all__ = ["LatentTable", "RowStore"]

_NUMPY = {torch.float32: np.float32, torch.int64: np.int64}


class RowStore(nn.Module):
    """A module whose buffers are tables: on its device, or in mapped files beside it.

    Buffers, not parameters: no optimizer and no gradient sees them, and checkpoints hold them.

    Args:
        folder: where unnamed temporary files for the tables are made, one a table and process,
            which vanish with the process. None keeps the tables in memory, on the device of the
            networks. Rows of a mapped table travel to the device and back at every step.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        super().__init__()
        self.folder = folder

    def add_rows(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """A buffer of zeros.

        Raises:
            UserError: a mapped file cannot be made, or there is no room for it.
        """
        if self.folder is None:
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        else:
            self.register_buffer(name, _mapped(shape, dtype, Path(self.folder)))

    def rows(self, name: str, index: Tensor) -> Tensor:
        """Rows of a table, on the index's device."""
        table: Tensor = getattr(self, name)
        return table[index.to(table.device)].to(index.device)

    @torch.no_grad()
    def write(self, name: str, index: Tensor, values: Tensor) -> None:
        """Writes rows; a row that `index` names twice must be given the same values twice."""
        table: Tensor = getattr(self, name)
        table[index.to(table.device)] = values.to(table.device, table.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What .to(), .cuda() and .double() go through: a mapped table stays in its file.
        if self.folder is not None:
            return self
        result: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's own
        return result


class LatentTable(RowStore):
    """Codes of images, or of classes: one row each, drawn uniformly from ±`bound`.

    Args:
        rows: number of codes.
        dim: size of a code.
        bound: half the width of the distribution of the initial values; both releases of LORD
            take 0.05, the default of Keras.
        folder: see `RowStore`.

    Example:
        >>> table = LatentTable(1000, 4)
        >>> table(torch.tensor([3, 7])).shape, list(table.parameters())
        (torch.Size([2, 4]), [])
    """

    weight: Tensor

    def __init__(
        self, rows: int, dim: int, *, bound: float = 0.05, folder: str | Path | None = None
    ) -> None:
        super().__init__(folder)
        self.add_rows("weight", (rows, dim), torch.float32)
        self.weight.uniform_(-bound, bound)

    def forward(self, index: Tensor) -> Tensor:
        """int64 of any shape to codes with one dimension more."""
        return self.rows("weight", index)

    def extra_repr(self) -> str:
        """Show the size when the module is printed."""
        return f"{self.weight.shape[0]} x {self.weight.shape[1]}, folder={self.folder}"


def _mapped(shape: tuple[int, ...], dtype: torch.dtype, folder: Path) -> Tensor:
    size = int(np.prod(shape)) * dtype.itemsize
    try:
        # Unnamed: nothing to remove afterwards, and no two processes write to one file.
        with tempfile.TemporaryFile(dir=folder) as file:
            # Reserved now: a mapping without room would end the process in the middle of a run.
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
            mapped: Any = np.memmap(file, dtype=_NUMPY[dtype], mode="r+", shape=shape)
    except OSError as error:
        raise UserError(
            f"{folder} cannot hold a table of {size / 1e6:.0f} MB: {error.strerror or error}; "
            "name another table_folder, or leave it out to keep the table in memory"
        ) from error
    return torch.from_numpy(mapped)
