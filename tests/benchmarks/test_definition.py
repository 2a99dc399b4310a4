"""The benchmarks' definition against the tests' loops, and its gradient against autograd."""

from __future__ import annotations

import definition
import pytest
import torch

from dcorr.pairwise import reference
from tests.dcorr import oracle
from tests.dcorr.oracle import draw


@pytest.mark.parametrize(("p", "q"), [(1, 1), (3, 2), (2, 7), (10, 6)])
def test_matches_loops_and_autograd(p: int, q: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definition, "BLOCK", 7 * 30)  # blocks of 7 rows, the last one shorter
    x, y = draw(30, p).requires_grad_(), draw(30, q, seed=1).requires_grad_()
    defined = definition.define(x, y)
    for quantity, function in (("dcov2", oracle.dcov2), ("dcor2", oracle.dcor2)):
        wanted = function(x.detach(), y.detach())
        assert defined.value(quantity) == pytest.approx(wanted, rel=1e-12)
        assert defined.value(quantity[:-1]) == pytest.approx(wanted**0.5, rel=1e-12)
    wanted_grads = torch.autograd.grad(reference.pair_moments(x, y, None, 1.0)[0], (x, y))
    for found, grad in zip((defined.x_grad, defined.y_grad), wanted_grads, strict=True):
        torch.testing.assert_close(found, grad, rtol=1e-10, atol=1e-14)


def test_coincident_points_pull_nothing() -> None:
    x, y = draw(20, 1).round(), draw(20, 1, seed=1).round()
    defined, half = definition.define(x, y), torch.tensor([3, 11])
    assert len(x.unique()) < len(x)
    assert torch.isfinite(defined.x_grad).all()
    assert defined.ab == pytest.approx(oracle.dcov2(x, y), rel=1e-12)
    for found, whole in zip(
        definition.gradient_at(x, y, half), (defined.x_grad, defined.y_grad), strict=True
    ):
        torch.testing.assert_close(found, whole[half], rtol=1e-10, atol=1e-14)


def test_row_means_from_sorted_numbers() -> None:
    x = draw(50, 1).round(decimals=1)
    torch.testing.assert_close(
        definition.sorted_row_means(x[:, 0]), definition.row_means(x), rtol=1e-12, atol=0
    )
