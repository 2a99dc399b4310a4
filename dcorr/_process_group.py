"""Several processes, one statistic: who takes part, and what they tell each other first.

A process that waits for the samples of another one waits for ever if that one has raised an error.
So every statistic with a ``group`` begins with one small exchange: each process says how many
samples it has and what it was asked for, or with which error it gave up. After it, either all
processes go on or all of them raise, and each says which process differs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

if dist.is_available():
    from torch.distributed import ProcessGroup
else:

    class ProcessGroup:  # type: ignore[no-redef]
        """Stands in for the real one where torch is built without ``torch.distributed``."""


Group = ProcessGroup | Literal["world"] | None
"""Whose samples a statistic is of: a process group's, all processes', or this process's alone."""

# Bytes of a message. One size for all, so that one collective does; errors are cut to fit.
MESSAGE = 1024

# Rows of the smallest block of pairs: under it the calls cost more than the pairs.
LEAST_BLOCK = 32

_Self = TypeVar("_Self", bound="HoldsGroup")


def check_group(group: object) -> None:
    """Refuse what names no processes; whether this process is one of them is known when called."""
    # Of torch's own: what `new_group` returns to processes that are not in the group.
    outsider = dist.is_available() and group is dist.GroupMember.NON_GROUP_MEMBER
    if group is None or isinstance(group, ProcessGroup) or outsider:
        return
    if isinstance(group, str):
        if group != "world":
            raise ValueError(f"group must be 'world', a ProcessGroup or None, got {group!r}")
        return
    raise TypeError(f"group must be 'world', a ProcessGroup or None, got {type(group).__name__}")


def together(group: Group, statistic: str) -> AbstractContextManager[Team | None]:
    """Enter the checks of a statistic; an error among them is told to the other processes.

    Gives ``None`` without a group. The body has to call :meth:`Team.agree` as its last check.
    """
    return nullcontext() if group is None else _telling(_join(group, statistic))


@contextmanager
def _telling(team: Team) -> Iterator[Team]:
    try:
        yield team
    except Exception as error:
        if not team.spoken:
            team.exchange({"error": [type(error).__name__, str(error)]})
        raise


def _join(group: Group, statistic: str) -> Team:
    check_group(group)
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            f"group={group!r} needs a process group: call torch.distributed.init_process_group "
            "first, or leave group=None for the statistic of this process alone"
        )
    if group == "world":
        group = dist.group.WORLD
    if not isinstance(group, ProcessGroup) or dist.get_rank(group) < 0:
        raise ValueError("group must contain this process, got a group of other processes")
    return Team(group, statistic)


class Team:
    """The processes that share one call of one statistic."""

    def __init__(self, group: ProcessGroup, statistic: str) -> None:
        self.group = group
        self.statistic = statistic
        self.rank: int = dist.get_rank(group)
        self.size: int = dist.get_world_size(group)
        self.spoken = False

    def check_device(self, device: torch.device) -> None:
        """Refuse samples on a device that the group's backend does not serve."""
        served = self._served()
        if device.type not in served:
            listed = " and ".join(sorted(served))
            raise ValueError(
                f"group must have a backend for the samples' device {device.type}, "
                f"got one for {listed} (gloo serves the CPU, NCCL CUDA devices)"
            )

    def agree(self, samples: int, facts: Mapping[str, object]) -> list[int]:
        """Return every process's number of samples, once all of them agree on ``facts``.

        Raises:
            ValueError: on every process, if one of them has given up or states another fact.
            TypeError: on every process, if one of them has given up with one.
        """
        own = {"statistic": self.statistic, **{name: str(fact) for name, fact in facts.items()}}
        messages = self.exchange({"samples": samples, "facts": own})
        for rank, message in enumerate(messages):
            if "error" in message:
                kind, text = message["error"]
                error = TypeError if kind == "TypeError" else ValueError
                raise error(f"process {rank} of group has refused its arguments: {kind}: {text}")
        for name in own:
            _check_equal(name, [message["facts"].get(name) for message in messages])
        return [message["samples"] for message in messages]

    def exchange(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the messages of all processes, in the order of their ranks."""
        self.spoken = True
        device = self._device()
        own = torch.frombuffer(bytearray(_packed(message)), dtype=torch.uint8).to(device)
        every = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(every, own, group=self.group)
        rows = torch.stack(every).cpu()
        return [json.loads(bytes(row.tolist()).rstrip(b"\0")) for row in rows]

    def block(self, n: int, largest: int) -> int:
        """Return the rows of a block of pairs, so that every process is dealt several blocks."""
        return min(largest, max(LEAST_BLOCK, -(-n // (2 * self.size))))

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Add up tensors of one dtype over all processes, in place and in one message."""
        packed = torch.cat([t.reshape(-1) for t in tensors])
        dist.all_reduce(packed, group=self.group)
        _unpack(packed, tensors)

    def copy_first_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors of one dtype with those of the first process, in one message."""
        packed = torch.cat([t.reshape(-1) for t in tensors])
        dist.broadcast(packed, dist.get_global_rank(self.group, 0), group=self.group)
        _unpack(packed, tensors)

    def rows(self, local: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rows ``(*B, n, F)`` of all processes, of ``(*B, n_local, F)`` on each."""
        most = max(counts)
        own = local.movedim(-2, 0)
        # Not every backend gathers tensors of different shapes.
        padded = own.new_zeros((most, *own.shape[1:]))
        padded[: own.shape[0]] = own
        every = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(every, padded, group=self.group)
        found = torch.cat([rows[:n] for rows, n in zip(every, counts, strict=True)])
        return found.movedim(0, -2).contiguous()

    def _served(self) -> set[str]:
        pairs = str(dist.get_backend_config(self.group)).split(",")
        return {pair.partition(":")[0] for pair in pairs}

    def _device(self) -> torch.device:
        # Of the group and not of the samples: a process may have come without samples.
        if "cpu" in self._served():
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())


class HoldsGroup(nn.Module):
    """A module with the setting ``group``; a process group is not copied with it, but shared."""

    group: Group

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        memo[id(self.group)] = self.group
        clone = self.__class__.__new__(self.__class__)
        memo[id(self)] = clone
        clone.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return clone

    def _group_repr(self) -> str:
        if self.group is None:
            return ""
        return (
            f", group={self.group!r}" if isinstance(self.group, str) else ", group=<ProcessGroup>"
        )


def _unpack(packed: Tensor, tensors: Sequence[Tensor]) -> None:
    pieces = torch.split(packed, [t.numel() for t in tensors])
    for t, piece in zip(tensors, pieces, strict=True):
        t.copy_(piece.view_as(t))


def _packed(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    while len(data) > MESSAGE and "error" in message:
        kind, text = message["error"]
        message = {"error": [kind, text[: len(text) // 2] + "..."]}
        data = json.dumps(message).encode()
    assert len(data) <= MESSAGE
    return data.ljust(MESSAGE, b"\0")


def _check_equal(name: str, facts: list[str | None]) -> None:
    ranks: dict[str | None, list[str]] = {}
    for rank, fact in enumerate(facts):
        ranks.setdefault(fact, []).append(str(rank))
    if len(ranks) > 1:
        found = "; ".join(
            f"{fact} on process{'es' if len(who) > 1 else ''} {', '.join(who)}"
            for fact, who in ranks.items()
        )
        raise ValueError(f"all processes of group must have the same {name}, got {found}")
