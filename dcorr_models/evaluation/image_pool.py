"""The images of all splits together, for measures of what learns without labels."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr_models.data.base import Splits

__all__ = ["Pool"]


class Pool:
    """Training, validation and test images in one order, read in batches.

    Published measures of codes encode the whole data set.

    Args:
        splits: some may be empty.

    Attributes:
        factors: int64 (N, F) of all images; None where a split does not know them.
    """

    def __init__(self, splits: Splits) -> None:
        self.parts = [part for part in splits if len(part)]
        known = [part.factors for part in self.parts]
        factors = [columns for columns in known if columns is not None]
        self.factors = torch.cat(factors) if len(factors) == len(known) else None

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def rows(self, count: int | None, *, seed: int) -> Tensor:
        """At most `count` rows, drawn at random; all of them for None."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return order[:count]

    def images(self, rows: Tensor) -> Tensor:
        """(N, C, H, W) in the order of the rows."""
        result: Tensor | None = None
        first = 0
        for part in self.parts:
            inside = ((rows >= first) & (rows < first + len(part))).nonzero()[:, 0]
            if len(inside):
                found = part.__getitems__((rows[inside] - first).tolist())["image"]
                if result is None:
                    result = found.new_empty(len(rows), *found.shape[1:])
                result[inside.to(found.device)] = found
            first += len(part)
        assert result is not None, "rows lie within the pool"
        return result
