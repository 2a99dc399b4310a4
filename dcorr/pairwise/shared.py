"""The pair moments of several processes' samples: each process sums some of the blocks of pairs.

Every process holds all samples, ``n (p + q)`` numbers, and takes every k-th block of the upper
triangle, whoever's samples it is of. So each has the k-th part of the work of a single process,
also where the local batches differ. Two sums bring the parts together:

- forward, the sums over pairs and over rows, from which every process has the same moments;
- backward, the gradients that come in for the moments. What is differentiated is the sum of all
  processes' losses, and all of them are functions of the same moments.

Backward then gives the gradients of the blocks of one process; the gather that brought the samples
here adds them up (:mod:`dcorr._collectives`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcorr._collectives import Collective
from dcorr._process_group import Team
from dcorr.pairwise import operator, tiled
from dcorr.pairwise.backend import Incoming, Moments
from dcorr.pairwise.sample import wide


class Asked(NamedTuple):
    """What a statistic makes of the moments; alike on all processes, as are the sums over them."""

    exponent: float
    variances: bool
    rows: bool
    """Whether gradients come in for the row means."""


class Dealt:
    """The tiled backend on the blocks of one process."""

    def __init__(self, team: Team) -> None:
        self.team = team

    def forward(
        self, samples: list[Tensor], weights: Tensor | None, exponent: float, variances: bool
    ) -> Moments:
        """Return the moments, the same on every process."""
        return tiled.forward(samples, weights, exponent, variances, self.team)

    def backward(
        self,
        samples: list[Tensor],
        weights: Tensor | None,
        exponent: float,
        incoming: Incoming,
        wanted: list[bool],
        kept: list[Tensor],
    ) -> list[Tensor | None]:
        """Return the gradients of this process's blocks."""
        return tiled.backward(samples, weights, exponent, incoming, wanted, kept, self.team)

    def keeps(
        self, samples: list[Tensor], exponent: float
    ) -> list[tuple[tuple[int, ...], torch.dtype]]:
        """Return that nothing is kept."""
        return tiled.keeps(samples, exponent)


def pair_moments(
    x: Tensor, y: Tensor | None, weights: Tensor | None, asked: Asked, team: Team
) -> tuple[Tensor, ...]:
    """Return ab, aa, bb and both row means of samples that every process holds whole."""
    outputs: tuple[Tensor, ...] = _SharedMoments.apply(  # type: ignore[no-untyped-call]
        x, y, weights, asked, team
    )
    return outputs


class _SharedMoments(Collective):
    @staticmethod
    def forward(
        x: Tensor, y: Tensor | None, weights: Tensor | None, asked: Asked, team: Team
    ) -> tuple[Tensor | None, ...]:
        run = operator.run_forward
        return run(Dealt(team), x, y, weights, asked.exponent, asked.variances)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Any, ...]) -> None:
        *samples, ctx.asked, ctx.team = inputs
        ctx.save_for_backward(*samples, *output[3:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[:3]
        pulled = _SharedPull.apply(  # type: ignore[no-untyped-call]
            *ctx.saved_tensors, *grads, ctx.asked, ctx.team, wanted
        )
        kept = (g if want else None for g, want in zip(pulled, wanted, strict=True))
        return *kept, None, None


class _SharedPull(Collective):
    """Inputs: samples and weights, both row means, five gradients, and the settings."""

    @staticmethod
    def forward(*args: Any) -> tuple[Tensor | None, ...]:
        x, y, weights, a_rows, b_rows, *grads, asked, team, wanted = args
        incoming = _all_sums(grads, x, y, asked, team)
        return operator.run_backward(
            Dealt(team), x, y, weights, [a_rows, b_rows], incoming, asked.exponent, [*wanted], []
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is differentiated twice."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError(
            "the gradient of a statistic with a group and method 'tiled' cannot be differentiated "
            "again: take method='dense', with which every process computes the whole statistic"
        )


def _all_sums(
    grads: list[Tensor | None], x: Tensor, y: Tensor | None, asked: Asked, team: Team
) -> list[Tensor | None]:
    """Return the gradients of all processes' losses together, in one message of a fixed size."""
    two, batch = y is not None, x.shape[:-2]
    own, rows = asked.variances, batch + x.shape[-2:-1]
    shapes = [(two, batch), (own, batch), (own and two, batch)]
    shapes += [(asked.rows, rows), (asked.rows and two, rows)]
    totals = [
        None if not here else x.new_zeros(shape, dtype=wide(x)) if g is None else g.clone()
        for g, (here, shape) in zip(grads, shapes, strict=True)
    ]
    team.sum_([total for total in totals if total is not None])
    return totals
