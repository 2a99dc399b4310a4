"""What is wrong is not timed: the checks refuse values and gradients that are off."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import checks
import peers
import pytest
import torch
from checks import ByDefinition, ByPeers, CheckFailedError, check, energy, reference
from peers import RIVALS, Rival, by_numpy, by_torch, samples
from torch import Tensor


@pytest.mark.parametrize("name", ["dcorr", "dcorr dense", "dcorr tiled", "cdist", "broadcast"])
def test_right_results_pass(name: str) -> None:
    x, y = samples(60, 3, 5)
    errors = check(RIVALS[name], RIVALS[name].make(x, y), x, y, ByDefinition(x, y))
    assert errors.value is not None
    assert errors.gradient is not None


@pytest.mark.parametrize(
    "name", ["dcor naive", "statsmodels", "hyppo", "dcorr dcor2", "hyppo fast", "dcor AVL"]
)
def test_each_library_computes_what_its_line_says(name: str) -> None:
    p = 1 if RIVALS[name].univariate else 3
    x, y = samples(60, p, p, dtype="float64")
    errors = check(RIVALS[name], RIVALS[name].make(x, y), x, y, ByDefinition(x, y))
    assert errors.value is not None
    assert errors.value < 1e-10


class ScaledGradient(torch.autograd.Function):
    """Passes a value on, and 1 + 1e-3 times its gradient."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad * (1 + 1e-3)


@pytest.mark.parametrize(
    ("wrong", "quantity"),
    [
        (lambda x, y: peers.by_cdist(x, y) * (1 + 1e-4), "value"),
        (lambda x, y: peers.by_cdist(x, y) * torch.nan, "value"),
        (lambda x, y: ScaledGradient.apply(peers.by_cdist(x, y)), "gradient"),
    ],
)
@pytest.mark.parametrize("kind", [ByDefinition, ByPeers])
def test_wrong_results_fail(
    wrong: Callable[[Tensor, Tensor], Tensor], quantity: str, kind: type[ByDefinition]
) -> None:
    x, y = samples(60, 1, 1, dtype="float64")
    rival = Rival(by_torch(wrong), own=True)
    with pytest.raises(CheckFailedError, match=quantity):
        check(rival, rival.make(x, y), x, y, kind(x, y))


def test_another_formula_fails_for_others_too() -> None:
    x, y = samples(60, 3, 3)
    rival = Rival(by_numpy(lambda a, b: 1.02 * ByDefinition(x, y).value("dcov2")))
    with pytest.raises(CheckFailedError, match="value off by 2"):
        check(rival, rival.make(x, y), x, y, ByDefinition(x, y))


def test_many_samples_of_one_dimension_are_judged_by_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "DEFINED_SAMPLES", 50)
    x, y = samples(60, 1, 1, dtype="float64")
    right, definition = reference(x, y), ByDefinition(x, y)
    assert isinstance(right, ByPeers)
    assert isinstance(reference(x, y.expand(-1, 2)), ByDefinition)
    for quantity in ("dcov2", "dcov", "dcor2", "dcor"):
        assert right.value(quantity) == pytest.approx(definition.value(quantity), rel=1e-10)
    x_grad, y_grad = definition.defined.x_grad, definition.defined.y_grad
    assert right.gradient_error(x_grad, y_grad) < 1e-12
    assert right.gradient_error(x_grad, -y_grad) > 1


@pytest.mark.parametrize(
    ("value", "slope", "said"),
    [(1.04, 1.0, ""), (1.06, 1.0, "standard errors"), (1.0, 1.001, "finite difference")],
)
def test_an_estimate_is_judged_by_its_standard_error(
    value: float, slope: float, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = samples(30, 2, 3, dtype="float64")
    right = ByDefinition(x, y)
    error = torch.tensor(0.01 * right.value("dcov2"))
    estimate = SimpleNamespace(value=None, standard_error=error)
    monkeypatch.setattr("dcorr.sliced_dcov2", lambda *_, **__: estimate, raising=False)
    monkeypatch.setattr(checks, "sliced", lambda x, y: value * peers.by_cdist(x, y))
    # With another factor its gradient is not the slope of what is called again.
    rival = Rival(by_torch(lambda x, y: slope * value * peers.by_cdist(x, y)), "sliced", own=True)
    if not said:
        assert check(rival, rival.make(x, y), x, y, right).gradient < 1e-4
        return
    with pytest.raises(CheckFailedError, match=said):
        check(rival, rival.make(x, y), x, y, right)


def test_energy_distance() -> None:
    x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    # means of |x - y|: 0, 3, 1, 2; of |x - x'|: 0, 1, 1, 0; of |y - y'|: 0, 3, 3, 0
    assert energy(x, y) == pytest.approx(1.5 - 0.25 - 0.75)


def test_samples_are_the_same_in_every_dtype() -> None:
    wide, narrow = samples(9, 2, 3, dtype="float64"), samples(9, 2, 3)
    assert all(torch.equal(w.float(), n) for w, n in zip(wide, narrow, strict=True))
    assert narrow[0].shape == (9, 2)
    assert narrow[1].shape == (9, 3)
