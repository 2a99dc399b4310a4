"""Adam row by row: equal to PyTorch's dense Adam, in each of its two meanings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from dcorr_models.nets.latent_table import LatentTable
from dcorr_models.training.rates import CosineRate
from dcorr_models.training.row_adam import RowAdam

ROWS, DIM, STEPS, BATCH = 40, 3, 60, 6
RATE = CosineRate(3e-2, 1e-4, STEPS)


def draws() -> list[tuple[Tensor, Tensor]]:
    """Rows, some of them twice in a batch, and a part of their gradients; row 39 never comes."""
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randint(0, ROWS - 1, (BATCH,), generator=generator),
            torch.randn(BATCH, DIM, generator=generator),
        )
        for _ in range(STEPS)
    ]


def trained(folder=None, skipped: str = "catch_up", betas=(0.5, 0.999)) -> tuple[Tensor, Tensor]:
    """First and last codes; the gradient of a row is twice its value, and noise."""
    torch.manual_seed(0)
    table = LatentTable(ROWS, DIM, folder=folder)
    adam = RowAdam(ROWS, DIM, betas=betas, skipped=skipped, folder=folder)
    start = table.weight.clone()
    for step, (index, noise) in enumerate(draws(), start=1):
        adam.catch_up(table, index, step=step, rate=RATE)
        adam.step(table, index, 2 * table(index) + noise, step=step, rate=RATE)
    if skipped == "catch_up":
        adam.finish(table, step=STEPS, rate=RATE)
    return start, table.weight.clone()


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_catching_up_gives_what_dense_adam_gives_over_the_whole_table(beta1: float):
    start, sparse = trained(betas=(beta1, 0.999))
    dense = start.clone().requires_grad_()
    optimizer = Adam([dense], lr=1.0, betas=(beta1, 0.999))
    for step, (index, noise) in enumerate(draws(), start=1):
        gradient = 2 * dense.detach()[index] + noise
        dense.grad = torch.zeros(ROWS, DIM).index_add_(0, index, gradient)
        optimizer.param_groups[0]["lr"] = RATE.start * RATE.factor(step - 1)
        optimizer.step()
    assert (dense - start).abs().max() > 0.2
    torch.testing.assert_close(sparse, dense.detach(), rtol=0, atol=2e-6)
    assert torch.equal(sparse[39], start[39])


def test_ignoring_other_steps_gives_dense_adam_of_each_rows_own_steps():
    start, sparse = trained(skipped="ignore")
    for row in range(ROWS):
        dense = start[row].clone().requires_grad_()
        optimizer = Adam([dense], lr=1.0, betas=(0.5, 0.999))
        for step, (index, noise) in enumerate(draws(), start=1):
            mine = index == row
            if mine.any():
                dense.grad = (2 * dense.detach() * mine[:, None] + noise * mine[:, None]).sum(0)
                optimizer.param_groups[0]["lr"] = RATE.start * RATE.factor(step - 1)
                optimizer.step()
        torch.testing.assert_close(sparse[row], dense.detach(), rtol=0, atol=2e-6)


def test_a_mapped_table_learns_the_same(tmp_path):
    assert torch.equal(trained()[1], trained(tmp_path)[1])


def test_a_step_writes_its_own_rows_and_nothing_else():
    table, adam = LatentTable(ROWS, DIM), RowAdam(ROWS, DIM)
    before = [t.clone() for t in (table.weight, adam.first, adam.second, adam.steps)]
    adam.step(table, torch.tensor([3, 7]), torch.ones(2, DIM), step=4, rate=RATE)
    after = (table.weight, adam.first, adam.second, adam.steps)
    for old, new in zip(before, after, strict=True):
        changed = (old != new).reshape(ROWS, -1).any(dim=1).nonzero().flatten()
        assert changed.tolist() == [3, 7]
