"""Sums and gathers over processes that can be differentiated, any number of times.

Each process has a loss of its own, and what is differentiated is the sum of them all: the backward
of a gather is the sum, over the processes, of the gradients of a process's rows, and the backward
of a sum is the sum of the gradients. Where all processes hold the same loss, each of them thus gets
its share of the gradient times the number of processes, and the mean that
``torch.nn.parallel.DistributedDataParallel`` takes is the gradient of that loss. These are also the
rules of ``torch.distributed.nn.functional``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dcorr._process_group import Team


def all_sum(t: Tensor, team: Team) -> Tensor:
    """Return the sum of a tensor over all processes."""
    total: Tensor = _Sum.apply(t, team)  # type: ignore[no-untyped-call]
    return total


def all_rows(tensors: Sequence[Tensor], team: Team, counts: Sequence[int]) -> list[Tensor]:
    """Return ``(*B, n, F)``, the rows of all processes, for each ``(*B, n_local, F)``.

    The tensors have one dtype and batch shape; they travel together, and so do the gradients of
    those that have any.
    """
    return list(_Rows.apply(team, tuple(counts), *tensors))  # type: ignore[no-untyped-call]


def agree(
    team: Team,
    rows: Mapping[str, Tensor],
    given: Sequence[Tensor],
    facts: Mapping[str, object],
) -> list[int]:
    """Return every process's number of samples, once all agree on what they are about to compute.

    Args:
        team: the processes.
        rows: what is to be gathered, ``(*B, n_local, F)`` each, by the names of the arguments.
        given: the same as the caller passed it, in the same order.
        facts: settings to be equal, by name.
    """
    first = next(iter(rows.values()))
    team.check_device(first.device)
    own = dict(facts) | {"arguments": ", ".join(rows), "device type": first.device.type}
    for (name, t), passed in zip(rows.items(), given, strict=True):
        own[f"dtype of {name}"] = passed.dtype
        sizes = *t.shape[:-2], "n", t.shape[-1]
        own[f"shape of {name}"] = f"({', '.join(map(str, sizes))})"
        # A process that has no gradient to wait for would leave the others waiting.
        own[f"requires_grad of {name}"] = passed.requires_grad and torch.is_grad_enabled()
    return team.agree(first.shape[-2], own)


def check_enough_together(name: str, counts: Sequence[int], least: int) -> None:
    """Refuse fewer samples over all processes than the statistic is defined for."""
    if sum(counts) < least:
        raise ValueError(
            f"{name} must have at least {least} samples over all processes of group, "
            f"got {' + '.join(map(str, counts))}"
        )


class Collective(torch.autograd.Function):
    """What a collective cannot do, in words."""

    @staticmethod
    def vmap(*_: Any) -> Any:
        raise NotImplementedError(
            "a statistic with a group cannot be mapped by torch.vmap: give it batch dimensions"
        )

    @staticmethod
    def jvp(*_: Any) -> Any:
        raise NotImplementedError("a statistic with a group has no forward-mode derivative")


class _Sum(Collective):
    @staticmethod
    def forward(t: Tensor, team: Team) -> Tensor:
        total = t.clone(memory_format=torch.contiguous_format)
        team.sum_([total])
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.team = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return all_sum(grad, ctx.team), None


class _Rows(Collective):
    """From the rows of this process to those of all; its adjoint is :class:`_OwnSums`."""

    @staticmethod
    def forward(team: Team, counts: tuple[int, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        rows = team.rows(torch.cat(tensors, -1), counts)
        return tuple(t.contiguous() for t in torch.split(rows, [t.shape[-1] for t in tensors], -1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.team, ctx.counts, *tensors = inputs
        ctx.mark_non_differentiable(
            *(out for out, t in zip(output, tensors, strict=True) if not t.requires_grad)
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        wanted = ctx.needs_input_grad[2:]
        own = iter(
            _OwnSums.apply(  # type: ignore[no-untyped-call]
                ctx.team, ctx.counts, *(g for g, want in zip(grads, wanted, strict=True) if want)
            )
        )
        return None, None, *(next(own) if want else None for want in wanted)


class _OwnSums(Collective):
    """From rows of all processes to this one's rows of their sums over the processes."""

    @staticmethod
    def forward(team: Team, counts: tuple[int, ...], *tensors: Tensor) -> tuple[Tensor, ...]:
        totals = [t.clone(memory_format=torch.contiguous_format) for t in tensors]
        team.sum_(totals)
        first = sum(counts[: team.rank])
        own = slice(first, first + counts[team.rank])
        return tuple(total[..., own, :].contiguous() for total in totals)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.team, ctx.counts, *_ = inputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return None, None, *all_rows(grads, ctx.team, ctx.counts)
