"""Adam for tables of which a step touches a few rows: no work and no state step over the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcorr_models.nets.latent_table import LatentTable, RowStore

__all__ = ["LearnedRows", "RowAdam", "Skipped", "sum_of_equal_rows"]

Skipped = Literal["catch_up", "ignore"]
Rate = Callable[[Tensor], Tensor]
# Where dense Adam's momentum of an untouched row has fallen to so little, it is left out.
_NEGLIGIBLE = 1e-10
_CHUNK = 4096


class RowAdam(RowStore):
    r"""Adam whose state lies row by row beside a table; a step costs as much as its rows.

    What dense Adam does with a row in the steps in which no sample uses it, `skipped` says:

    - `catch_up`: the same, but later. With a gradient of 0 the moments decay, and the row drifts on
      with what is left of its momentum. For k missed steps after step s that is

      .. math::
          \theta \leftarrow \theta - \sum_{j=1}^{k} \eta_{s+j}\,
          \frac{\beta_1^j m / (1 - \beta_1^{s+j})}
          {\sqrt{\beta_2^j v / (1 - \beta_2^{s+j})} + \epsilon},
          \quad m \leftarrow \beta_1^k m, \quad v \leftarrow \beta_2^k v

      made up for just before the row is used again. Values are then those of dense Adam over the
      whole table, up to rounding. The sum ends where β₁ʲ falls below 1e-10.
    - `ignore`: nothing. Each row has its own count of steps, and its values are those of a dense
      Adam that sees this row's gradients alone.

    The two train very differently where a row is touched once in many steps: dense Adam divides by
    a root of a second moment that has decayed since, and the row moves further, by up to the root
    of the number of steps in between.

    Args:
        rows: of the table.
        dim: of the table.
        betas: decay rates of the moments.
        eps: ε.
        skipped: `catch_up` or `ignore`.
        folder: see `RowStore`.

    Example:
        >>> table, adam = LatentTable(100, 2), RowAdam(100, 2)
        >>> index = torch.tensor([5, 5, 9])
        >>> adam.step(table, index, torch.ones(3, 2), step=1, rate=lambda step: 0.01 + 0 * step)
        >>> adam.steps.nonzero().flatten().tolist()
        [5, 9]
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    def __init__(
        self,
        rows: int,
        dim: int,
        *,
        betas: tuple[float, float] = (0.5, 0.999),
        eps: float = 1e-8,
        skipped: Skipped = "catch_up",
        folder: str | Path | None = None,
    ) -> None:
        super().__init__(folder)
        self.betas, self.eps, self.skipped = betas, eps, skipped
        self.add_rows("first", (rows, dim), torch.float32)
        self.add_rows("second", (rows, dim), torch.float32)
        # The step up to which a row has come, or with `ignore` how many steps it has had.
        self.add_rows("steps", (rows,), torch.int64)

    @torch.no_grad()
    def catch_up(self, table: LatentTable, index: Tensor, *, step: int, rate: Rate) -> None:
        """Brings rows to the state that dense Adam has before `step`, which counts from 1."""
        if self.skipped == "ignore" or step < 2:
            return
        done = self.rows("steps", index)
        missed = step - 1 - done
        first, second = self.rows("first", index), self.rows("second", index)
        beta1, beta2 = self.betas
        if beta1 > 0:
            table.write(
                "weight", index, table(index) - self._drift(first, second, done, step, rate)
            )
        self.write("first", index, first * (beta1**missed)[:, None])
        self.write("second", index, second * (beta2**missed)[:, None])
        self.write("steps", index, torch.full_like(done, step - 1))

    def _drift(self, first: Tensor, second: Tensor, done: Tensor, step: int, rate: Rate) -> Tensor:
        beta1, beta2 = self.betas
        terms = min(step - 1, math.ceil(math.log(_NEGLIGIBLE) / math.log(beta1)))
        j = torch.arange(1, terms + 1, device=done.device)
        at = done[:, None] + j  # (B, J) steps
        # Float64: 1 - β₂ᵗ loses half of its digits otherwise.
        pull = rate(at) * beta1 ** j.double() / (1 - beta1 ** at.double())
        pull = torch.where(at < step, pull, 0.0).to(first.dtype)
        spread = (beta2 ** j.double() / (1 - beta2 ** at.double())).sqrt().to(first.dtype)
        drift = torch.zeros_like(first)
        root = second.sqrt()
        for k in range(terms):
            drift += pull[:, k : k + 1] * first / (root * spread[:, k : k + 1] + self.eps)
        return drift

    @torch.no_grad()
    def step(
        self, table: LatentTable, index: Tensor, gradient: Tensor, *, step: int, rate: Rate
    ) -> None:
        """One update of the named rows; gradients of a row named twice are added up.

        Args:
            table: of this state's size.
            index: int64 (B,).
            gradient: (B, dim).
            step: counts from 1; every step of the training counts, also those of other rows.
            rate: learning rate of a tensor of steps.
        """
        self.catch_up(table, index, step=step, rate=rate)
        index, gradient = sum_of_equal_rows(index, gradient.to(self.first.dtype))
        beta1, beta2 = self.betas
        if self.skipped == "ignore":
            count = self.rows("steps", index) + 1
        else:
            count = torch.full_like(index, step)
        first = self.rows("first", index).lerp(gradient, 1 - beta1)
        second = self.rows("second", index).mul(beta2).addcmul(gradient, gradient, value=1 - beta2)
        now = rate(torch.full_like(index, step))
        size = (now / (1 - beta1 ** count.double())).to(first.dtype)[:, None]
        spread = (1 - beta2 ** count.double()).sqrt().to(first.dtype)[:, None]
        change = size * first / (second.sqrt() / spread + self.eps)
        table.write("weight", index, table(index) - change)
        self.write("first", index, first)
        self.write("second", index, second)
        self.write("steps", index, count)

    def finish(self, table: LatentTable, *, step: int, rate: Rate) -> None:
        """Brings all rows to the state after `step`, a part of the table at a time."""
        every = torch.arange(len(self.steps), device=self.steps.device)
        for rows in torch.split(every, _CHUNK):
            self.catch_up(table, rows, step=step + 1, rate=rate)


class LearnedRows:
    """A table that learns within a stage: rows are lent as leaves, and their gradients come back.

    With several processes all of them apply the gradients of the global batch to all its rows, so
    that each has the same table, bit for bit.

    Args:
        table: the codes.
        adam: their state.
        rate: learning rate of a tensor of steps, which count from 1.
        fabric: set up and launched.
    """

    def __init__(self, table: LatentTable, adam: RowAdam, rate: Rate, fabric: Fabric) -> None:
        self.table, self.adam, self.rate, self.fabric = table, adam, rate, fabric
        self._index = torch.empty(0, dtype=torch.int64)
        self._leaf = torch.empty(0)

    def lend(self, index: Tensor, *, step: int, dtype: torch.dtype) -> Tensor:
        """Rows (B, dim) of this process's samples at `step`, from 1, as a leaf with a gradient."""
        self._index = self._gather(index)
        self.adam.catch_up(self.table, self._index, step=step, rate=self.rate)
        self._leaf = self.table(index).to(dtype).detach().requires_grad_()
        return self._leaf

    def learn(self, *, step: int) -> None:
        """Takes the leaf's gradient, that of this process's mean loss, and updates the rows."""
        gradient = self._leaf.grad
        assert gradient is not None, "learn() comes after the backward of what lend() gave"
        # DDP averages the networks' gradients; the mean over the global batch is that of the shares
        gradient = self._gather(gradient) / self.fabric.world_size
        self.adam.step(self.table, self._index, gradient, step=step, rate=self.rate)

    def _gather(self, rows: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return rows
        gathered = self.fabric.all_gather(rows)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)


def sum_of_equal_rows(index: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of all gradients with the same index, at each of its places; the order changes.

    Nothing waits for a GPU, as counting the distinct rows would: a row that comes twice comes with
    the same sum twice, and it does not matter which of the two is written.

    Example:
        >>> index, gradient = torch.tensor([4, 2, 4]), torch.tensor([[1.0], [2.0], [3.0]])
        >>> [t.flatten().tolist() for t in sum_of_equal_rows(index, gradient)]
        [[2, 4, 4], [2.0, 4.0, 4.0]]
    """
    index, order = index.sort(stable=True)
    group = torch.zeros_like(index)
    group[1:] = (index[1:] != index[:-1]).cumsum(0)
    sums = torch.zeros_like(gradient).index_add_(0, group, gradient[order])
    return index, sums[group]
