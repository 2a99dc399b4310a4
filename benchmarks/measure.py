"""Timing that holds on a shared machine: rivals in turn, medians, and the machine's description."""

from __future__ import annotations

import csv
import math
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch


class Timing(NamedTuple):
    """Seconds a call."""

    median: float
    low: float  # lower quartile
    high: float  # upper quartile


class Prepared(NamedTuple):
    """A call with something to make first that is not timed: a graph to go back through."""

    setup: Callable[[], Any]
    run: Callable[[Any], Any]


Call = Callable[[], Any] | Prepared


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(call: Call, device: torch.device) -> float:
    """Time of one call, from an idle device to an idle device."""
    made = call.setup() if isinstance(call, Prepared) else None
    synchronise(device)
    start = time.perf_counter()
    if isinstance(call, Prepared):
        call.run(made)
    else:
        call()
    synchronise(device)
    return time.perf_counter() - start


# A call is made once untimed right before it is timed, or it would pay for what its predecessor
# left in the caches, and for threads that another library's must first give way to. Calls longer
# than this, in seconds, bear that.
LONG = 2.0


def time_in_turn(
    calls: Mapping[str, Call], *, rounds: int, warmup: int, device: torch.device
) -> dict[str, list[float]]:
    """Times of each call: A B C, A B C, ... so that a slow moment meets all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    threads = torch.get_num_threads()
    for round_ in range(warmup + rounds):
        for name, call in calls.items():
            keep_threads(threads)
            if not times[name] or times[name][-1] < LONG:
                seconds(call, device)
            taken = seconds(call, device)
            if round_ >= warmup:
                times[name].append(taken)
    return times


def keep_threads(threads: int) -> None:
    """Give torch its threads back: libraries compiled by numba set the number that both use."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


def time_for(
    calls: Mapping[str, Call], *, budget: float, least: int, most: int, device: torch.device
) -> dict[str, list[float]]:
    """Time in turn for about ``budget`` seconds, at least ``least`` rounds and at most ``most``."""
    start = time.perf_counter()
    first = time_in_turn(calls, rounds=1, warmup=0, device=device)
    # The slowest calls hardly have a first time that is special; fast ones are warmed up more.
    if time.perf_counter() - start < budget / 10:
        first = time_in_turn(calls, rounds=1, warmup=2, device=device)
    round_ = sum(sum(values) for values in first.values())
    rounds = min(most, max(least, math.floor(budget / max(round_, 1e-9))))
    return time_in_turn(calls, rounds=rounds, warmup=0, device=device)


def summary(times: Iterable[float]) -> Timing:
    values = sorted(times)
    if len(values) < 2:
        return Timing(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Timing(median, low, high)


def machine(device: torch.device) -> dict[str, str]:
    """What a row needs to be read later: device, threads, versions, commit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": f"{device.type}: {name}",
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": _commit(),
    }


@cache
def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=-changed", "--exclude=*"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return said or "unknown"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a CSV file whole: all columns of all rows, in the order of their first appearance."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    unfinished.replace(path)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
