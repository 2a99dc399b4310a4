"""What several processes compute together, and what one process computes instead of them.

A case is a function of a `Seat`, run with the same arguments on every process; with one seat it is
what the others have to agree with. `processes.py` runs all cases, `test_process_group.py` judges.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import dcorr
from dcorr import dcor2, dcov2, xcov
from dcorr.dcor_names import distance_stats_sqr
from tests.dcorr.oracle import draw

F64, F32 = torch.float64, torch.float32
Result = dict[str, Any]


class Seat(NamedTuple):
    """One process of several; of one, it has all samples and no group."""

    rank: int
    size: int

    @property
    def group(self) -> str | None:
        return "world" if self.size > 1 else None

    def own(self, n: int) -> slice:
        """This process's samples: shares of very different sizes, with four processes one empty."""
        counts = {1: [n], 2: [1, n - 1], 4: [3, 0, 1, n - 4]}[self.size]
        first = sum(counts[: self.rank])
        return slice(first, first + counts[self.rank])


# -- values and gradients of every statistic ------------------------------------------------------


class Statistic(NamedTuple):
    """A statistic with its settings and the shapes of what goes in."""

    name: str
    settings: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...] = ((40, 3), (40, 2))
    weights: tuple[int, ...] | None = None
    dtype: torch.dtype = F64
    still: tuple[int, ...] = ()  # arguments that need no gradient

    def __call__(self, seat: Seat, processes: int) -> Result:
        """Value and gradients; each process has a loss of its own, and their sum counts."""
        given = [7 * draw(*shape, seed=k, dtype=self.dtype) for k, shape in enumerate(self.shapes)]
        given[-1] = given[-1] + given[0][..., : given[-1].shape[-1]].square()[..., :1]
        arguments = [
            t[..., seat.own(t.shape[-2]), :].clone().requires_grad_(k not in self.still)
            for k, t in enumerate(given)
        ]
        options = dict(self.settings)
        if self.weights is not None:
            w = draw(*self.weights, seed=9, dtype=self.dtype).square()
            options["weights"] = w[..., seat.own(w.shape[-1])].clone().requires_grad_()
        value = FUNCTIONS[self.name](*arguments, **options, group=seat.group)
        loss = (value * draw(1, *value.shape, seed=5, dtype=self.dtype)[0]).sum()
        everyone = range(1, processes + 1) if seat.size == 1 else [seat.rank + 1]
        (loss * sum(everyone)).backward()
        leaves = [*arguments, *([options["weights"]] if self.weights is not None else [])]
        # The samples' dimension first, so that the processes' gradients can be put in a row.
        grads = [
            None if t.grad is None else t.grad.movedim(-1 if k == len(arguments) else -2, 0)
            for k, t in enumerate(leaves)
        ]
        return {"value": value.detach(), "grads": grads}


def _stats(x: Tensor, y: Tensor, **options: Any) -> Tensor:
    return torch.stack(distance_stats_sqr(x, y, **options))


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    name: getattr(dcorr, name)
    for name in ("dcov2", "dcov", "dvar2", "dcor2", "dcor", "pdcov2", "pdcor", "xcov")
} | {"distance_stats_sqr": _stats}

MANY = ((300, 3), (300, 2))  # enough for auto to deal out blocks
BATCHED = ((2, 1, 40, 3), (3, 40, 2))
TILED = {"method": "tiled"}

STATISTICS = {
    "dcov2": Statistic("dcov2", {}),
    "dcov2 many": Statistic("dcov2", {}, MANY),
    "dcov2 unbiased": Statistic("dcov2", {"unbiased": True}, MANY),
    "dcov2 unbiased few": Statistic("dcov2", {"unbiased": True}),
    "dcov2 exponent .5": Statistic("dcov2", {"exponent": 0.5} | TILED),
    "dcov2 exponent 1.5": Statistic("dcov2", {"exponent": 1.5, "unbiased": True} | TILED),
    "dcov2 exponent 2": Statistic("dcov2", {"exponent": 2.0}, MANY),
    "dcov2 weights": Statistic("dcov2", {}, MANY, weights=(300,)),
    "dcov2 weights few": Statistic("dcov2", {}, weights=(40,)),
    "dcov2 batched": Statistic("dcov2", TILED, BATCHED),
    "dcov2 batched weights": Statistic("dcov2", TILED, BATCHED, weights=(2, 3, 40)),
    "dcov2 batched few": Statistic("dcov2", {}, BATCHED, weights=(40,)),
    "dcov2 dense": Statistic("dcov2", {"method": "dense"}, MANY),
    "dcov2 one column": Statistic("dcov2", {}, ((300, 1), (300, 1))),
    "dcov2 still y": Statistic("dcov2", {}, MANY, still=(1,)),
    "dcov2 float32": Statistic("dcov2", {}, MANY, dtype=F32),
    "dcov2 float32 unbiased": Statistic("dcov2", {"unbiased": True}, MANY, dtype=F32),
    "dcov2 float32 wide": Statistic("dcov2", TILED, ((90, 200), (90, 3)), dtype=F32),
    "dcov2 five samples": Statistic("dcov2", {"unbiased": True} | TILED, ((5, 3), (5, 2))),
    "dcov": Statistic("dcov", TILED),
    "dvar2": Statistic("dvar2", TILED, ((40, 3),)),
    "dvar2 unbiased": Statistic("dvar2", {"unbiased": True}, ((300, 3),)),
    "dcor2": Statistic("dcor2", {}, MANY),
    "dcor2 unbiased": Statistic("dcor2", {"unbiased": True} | TILED),
    "dcor2 weights": Statistic("dcor2", TILED, weights=(40,)),
    "dcor": Statistic("dcor", {}, MANY),
    "pdcov2": Statistic("pdcov2", TILED, ((40, 3), (40, 2), (40, 1))),
    "pdcor": Statistic("pdcor", {}, (*MANY, (300, 1))),
    "pdcor few": Statistic("pdcor", {}, ((40, 3), (40, 2), (40, 1))),
    "distance_stats_sqr": Statistic("distance_stats_sqr", TILED),
    "xcov": Statistic("xcov", {}),
    "xcov weights": Statistic("xcov", {}, weights=(40,)),
    "xcov batched weights": Statistic("xcov", {}, BATCHED, weights=(3, 40)),
    "xcov wide": Statistic("xcov", {}, ((6, 20), (6, 30))),
    "xcov wide weights": Statistic("xcov", {}, ((6, 20), (6, 30)), weights=(6,)),
    "xcov float32": Statistic("xcov", {}, MANY, dtype=F32),
}

# -- training -------------------------------------------------------------------------------------

STEPS = 10


class Model(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)).to(dtype)
        self.head = nn.Linear(3, 6).to(dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encoder(x)
        return z, self.head(z)


class Training(NamedTuple):
    """Ten steps of an auto-encoder whose code has to be independent of a label."""

    loss: str
    settings: dict[str, Any]
    n: int = 48
    dtype: torch.dtype = F64

    def __call__(self, seat: Seat, processes: int) -> Result:
        torch.manual_seed(0)
        model: nn.Module = Model(self.dtype)
        run = DistributedDataParallel(model) if seat.size > 1 else model
        decorrelation = getattr(dcorr, self.loss)(**self.settings, group=seat.group)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        own = seat.own(self.n)
        for step in range(STEPS):
            x = draw(self.n, 6, seed=step, dtype=self.dtype)
            x, y = x[own], x[own, :2].square()
            z, x_hat = run(x)
            # A mean over uneven shares: the mean over processes is that over all samples.
            task = (x_hat - x).square().sum() * seat.size / (self.n * x.shape[-1])
            optimizer.zero_grad()
            (task + decorrelation(z, y)).backward()
            optimizer.step()
        return {name: p.detach() for name, p in model.named_parameters()}


TRAININGS = {
    "train dcov2": Training("DCov2Loss", {}),
    "train dcov2 tiled": Training("DCov2Loss", {"method": "tiled"}),
    "train dcov2 float32": Training("DCov2Loss", {"method": "tiled"}, n=300, dtype=F32),
    "train dcor2 unbiased": Training("DCor2Loss", {"unbiased": True, "method": "tiled"}),
    "train xcov": Training("XCovLoss", {}),
}

# -- the rest -------------------------------------------------------------------------------------


def second_derivatives(seat: Seat, processes: int) -> Result:
    """A gradient penalty: each process's own, of the gradient of the sum of all losses."""
    result = {}
    for name, function in (("dcov2", dcov2), ("xcov", xcov)):
        x, y = draw(12, 3), draw(12, 2, seed=1)
        own = seat.own(12)
        x, y = x[own].clone().requires_grad_(), y[own].clone().requires_grad_()
        share = 1 if seat.size > 1 else processes
        value = function(x, y, group=seat.group)
        grad = torch.autograd.grad(share * value, x, create_graph=True)[0]
        grad.pow(3).sum().backward()
        result[f"{name} x"], result[f"{name} y"] = x.grad, y.grad
    return result


def constant_columns(seat: Seat, processes: int) -> Result:
    """What does not vary gives exactly 0 and a zero gradient, whatever its offset."""
    x = torch.full((40, 3), 1e7 / 3)[seat.own(40)].requires_grad_()
    y = draw(40, 2, dtype=F32)[seat.own(40)]
    values = [f(x, y, group=seat.group) for f in (dcov2, dcor2, xcov)]
    sum(values).backward()
    return {"values": torch.stack(values).detach(), "grad": x.grad}


def groups(seat: Seat, processes: int) -> Result:
    """Of four processes, 1 and 3 together, and 2 alone; all of them make all the groups."""
    pair, single = dist.new_group([1, 3]), dist.new_group([2])
    x, y = draw(20, 3, seed=seat.rank), draw(20, 2, seed=9 + seat.rank)
    result: Result = {"none": dcov2(x, y)}
    for name, group in (("pair", pair), ("single", single)):
        try:
            result[name] = dcov2(x, y, group=group, method="tiled")
        except ValueError as error:
            result[name] = str(error)
    world = dcorr.DCov2Loss(group=dist.group.WORLD)
    result["world"] = world(x, y)
    result["copy shares"] = copy.deepcopy(world).group is world.group
    result["repr"] = repr(world)
    try:
        pickle.dumps(world)
    except TypeError as error:
        result["pickle"] = str(error)
    return result


def messages(seat: Seat, processes: int) -> Result:
    """Counts the collectives of one value and one gradient."""
    counted: list[str] = []
    names = "all_gather", "all_reduce", "broadcast"
    originals = {name: getattr(dist, name) for name in names}

    def counting(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            counted.append(name)
            return originals[name](*args, **options)

        return call

    for name in names:
        setattr(dist, name, counting(name))
    try:
        x = draw(20, 3).requires_grad_()
        value = dcov2(x, x.square(), group="world", method="tiled")
        forward, counted = counted, []
        value.backward()
        return {"forward": forward, "backward": counted}
    finally:
        for name in names:
            setattr(dist, name, originals[name])


def compiled(seat: Seat, processes: int) -> Result:
    """The group is left out of the graph, and works."""
    x = draw(40, 3)[seat.own(40)].requires_grad_()

    def loss(x: Tensor) -> Tensor:
        return 2 * dcov2(x.exp(), x[:, :1], group=seat.group)

    run = torch.compile(loss, backend="eager") if seat.size > 1 else loss
    value = run(x)
    (value * (1 if seat.size > 1 else processes)).backward()
    return {"value": value.detach(), "grad": x.grad}


def func_grad(seat: Seat, processes: int) -> Result:
    x = draw(40, 3)[seat.own(40)]
    share = 1 if seat.size > 1 else processes
    return {
        method: torch.func.grad(
            lambda t, m=method: share * dcov2(t, t.square(), group=seat.group, method=m)
        )(x)
        for method in ("auto", "tiled")
    }


COMPARED = {
    "second derivatives": second_derivatives,
    "constant columns": constant_columns,
    "compiled": compiled,
    "torch.func.grad": func_grad,
}
SPECIAL = {"groups": groups, "messages": messages}
# The compiler takes seconds to start in each process.
ONLY = {"groups": 4, "compiled": 2}
