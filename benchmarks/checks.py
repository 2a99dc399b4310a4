"""What comes before the clock: each result against the float64 definition, or between peers.

Results of this package are held to the tolerance table of the tests. Of the others it is asked that
they compute the same quantity; how far they are off stands in their row.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from definition import Definition, define, gradient_at
from peers import PROJECTIONS, RIVALS, Rival, Work, sliced
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the table that the tests use
from tests.dcorr.tolerances import tolerance

# Rounding of others may be worse than ours; another formula would be off by much more.
SAME_QUANTITY = {"value": 1e-2, "gradient": 1e-2}

# One-dimensional samples of more than this are judged between the O(n log n) algorithms of dcor:
# the definition's n² pairs would take minutes.
DEFINED_SAMPLES = 1 << 14
GRADIENT_ROWS = 64


class CheckFailedError(Exception):
    """A result is not what it should be."""


class Errors(NamedTuple):
    """Relative errors: of the value, and of the gradients as vectors, the worse of the two."""

    value: float | None = None
    gradient: float | None = None


class Reference(Protocol):
    """What is known about the right result."""

    def value(self, quantity: str) -> float:
        """The statistic."""

    def gradient_error(self, x_grad: Tensor, y_grad: Tensor) -> float:
        """How far a gradient of dCov² is off, relative to its length."""


class ByDefinition:
    """Everything from the float64 definition."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.samples = x, y
        self.defined: Definition = define(x, y)

    def value(self, quantity: str) -> float:
        """The statistic."""
        return energy(*self.samples) if quantity == "energy" else self.defined.value(quantity)

    def gradient_error(self, x_grad: Tensor, y_grad: Tensor) -> float:
        """Of whole gradients."""
        return max(
            relative(x_grad, self.defined.x_grad),
            relative(y_grad, self.defined.y_grad),
        )


class ByPeers:
    """Values of one-dimensional samples from dcor, where its two algorithms agree."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.samples = x, y
        names = ("dcor mergesort", "dcor AVL")
        values = [call(RIVALS[name].make(x, y).forward) for name in names]
        if not off(values[0], values[1]) < tolerance(torch.float64, "value")["rtol"]:
            raise CheckFailedError(f"dcor's algorithms disagree: {values[0]} and {values[1]}")
        self.dcov2 = float(values[1])

    def value(self, quantity: str) -> float:
        """The statistic."""
        if quantity == "dcov2":
            return self.dcov2
        import dcor

        x, y = (t[:, 0].double().cpu().numpy() for t in self.samples)
        correlation = float(dcor.distance_correlation(x, y, method="avl"))
        return {"dcov": self.dcov2**0.5, "dcor": correlation, "dcor2": correlation**2}[quantity]

    def gradient_error(self, x_grad: Tensor, y_grad: Tensor) -> float:
        """Of some rows, each from its definition."""
        x, y = self.samples
        rows = torch.linspace(0, len(x) - 1, GRADIENT_ROWS, device=x.device).long()
        right = gradient_at(x, y, rows)
        return max(relative(g[rows], r) for g, r in zip((x_grad, y_grad), right, strict=True))


def reference(x: Tensor, y: Tensor) -> Reference:
    """The definition where its pairs can be had in reasonable time, else dcor."""
    one_dimensional = x.shape[1] == y.shape[1] == 1
    return ByPeers(x, y) if one_dimensional and len(x) > DEFINED_SAMPLES else ByDefinition(x, y)


def check(rival: Rival, work: Work, x: Tensor, y: Tensor, right: Reference) -> Errors:
    """Return how far the results are off; raise where that is too far."""
    if rival.quantity == "sliced":
        return check_sliced(work, x, y, right)
    wanted, found = right.value(rival.quantity), []
    if work.forward is not None:
        found.append(work.forward())
    gradient = None
    if work.both is not None:
        value, *grads = work.both()
        found.append(value)
        if rival.quantity == "dcov2":
            gradient = right.gradient_error(*grads)
    errors = Errors(max(off(value, wanted) for value in found), gradient)
    for quantity, error in errors._asdict().items():
        limit = tolerance(x.dtype, quantity)["rtol"] if rival.own else SAME_QUANTITY[quantity]
        if error is not None and not error <= limit:
            raise CheckFailedError(f"{quantity} off by {error:.1e}, allowed {limit:.0e}")
    return errors


def check_sliced(work: Work, x: Tensor, y: Tensor, right: Reference) -> Errors:
    """An estimate: within 5 standard errors of the exact value, and its gradient its own slope."""
    from dcorr import sliced_dcov2

    generator = torch.Generator(x.device).manual_seed(0)
    estimate = sliced_dcov2(x, y, num_projections=PROJECTIONS, generator=generator)
    value, x_grad, y_grad = call(work.both)
    distance = abs(value.item() - right.value("dcov2"))
    if not distance <= 5 * float(estimate.standard_error):
        raise CheckFailedError(f"{distance:.1e} from the exact value: more than 5 standard errors")
    if x.dtype != torch.float64:
        return Errors(None, None)
    # The slope along the gradient itself, by a central difference.
    step = 1e-5
    ends = [sliced(x + s * step * unit(x_grad), y + s * step * unit(y_grad)) for s in (1, -1)]
    slope = float(ends[0] - ends[1]) / (2 * step)
    error = off(slope, float(x_grad.norm() + y_grad.norm()))
    if not error <= 1e-4:
        raise CheckFailedError(f"gradient off its finite difference by {error:.1e}")
    return Errors(None, error)


def energy(x: Tensor, y: Tensor) -> float:
    """Half the energy distance: mean |x - y| less half the means |x - x'| and |y - y'|."""
    x, y = x.detach().double(), y.detach().double()
    exact = "donot_use_mm_for_euclid_dist"
    between, within_x, within_y = (
        torch.cdist(s, t, compute_mode=exact).mean() for s, t in ((x, y), (x, x), (y, y))
    )
    return float(between - within_x / 2 - within_y / 2)


def off(found: Any, wanted: float) -> float:
    found = found.item() if isinstance(found, Tensor) else found
    return abs(found - wanted) / abs(wanted)


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def unit(t: Tensor) -> Tensor:
    return t / t.norm()


def call(function: Callable[[], Any] | None) -> Any:
    assert function is not None
    return function()
