"""One call for each row of a data set, on all processors, with a word on how far it is."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

__all__ = ["announced", "for_each_row", "to_stderr"]

Result = TypeVar("Result")

# set in each worker process alone
_work: Callable[[int], Any] | None = None


def for_each_row(
    work: Callable[[int], Result], rows: int, *, at_least: int = 100
) -> Iterator[Result]:
    """`work(0), work(1), ...` in order, computed by as many processes as there are processors.

    Where a new process begins as a copy of this one (Linux), that works from any script and with
    any function: nothing is imported or pickled but the results. Elsewhere every script would have
    to guard its main part, so that this process does the work alone.

    Args:
        work: The function of a row's number.
        rows: How often it is called.
        at_least: With fewer rows this process does them alone.

    Yields:
        The results.

    Raises:
        Exception: What `work` raised.

    Example:
        >>> list(for_each_row(lambda row: row * row, 4))
        [0, 1, 4, 9]
    """
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if processors == 1 or rows < at_least:
        yield from map(work, range(rows))
        return
    context = multiprocessing.get_context("fork")
    with context.Pool(processors, initializer=_begin, initargs=(work,)) as pool:
        yield from pool.imap(_call, range(rows), chunksize=32)


def announced(
    results: Iterator[Result], rows: int, title: str, say: Callable[[str], None]
) -> Iterator[Result]:
    """Pass results on, and say after each tenth of them how many there are.

    Of fewer than 100 only the last is announced.

    Args:
        results: What to pass on.
        rows: How many there will be.
        title: What they are.
        say: Takes each line.

    Yields:
        The results.

    Example:
        >>> list(announced(iter("ab"), 2, "letters", print))
        letters: 2 of 2
        ['a', 'b']
    """
    tenth = rows // 10 if rows >= 100 else max(1, rows)
    for done, result in enumerate(results, start=1):
        if done % tenth == 0:
            say(f"{title}: {done} of {rows}")
        yield result


def to_stderr(line: str) -> None:
    """Print a line of progress where it does not mix with results."""
    print(line, file=sys.stderr, flush=True)


def _begin(work: Callable[[int], Any]) -> None:
    global _work
    _work = work
    # as in DataLoader's workers: a copy of a process has not got the threads of its OpenMP
    torch.set_num_threads(1)


def _call(row: int) -> Any:
    assert _work is not None
    return _work(row)
