"""One call for each row of a data set, on all processors, with a word on how far it is."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from dcorr_models.errors import DataError

__all__ = ["announced", "for_each_row", "to_stderr"]

Result = TypeVar("Result")

_AT_ONCE = 32  # rows that a process is handed; a message between processes costs more than a row
_LOOK_EVERY = 1.0  # seconds between looks at whether all processes still live

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
        DataError: If one of the processes was killed, as Linux does where memory runs out.

    Example:
        >>> list(for_each_row(lambda row: row * row, 4))
        [0, 1, 4, 9]
    """
    processors = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if processors == 1 or rows < at_least:
        yield from map(work, range(rows))
        return
    context = multiprocessing.get_context("fork")
    others = _children()
    parts = [range(first, min(first + _AT_ONCE, rows)) for first in range(0, rows, _AT_ONCE)]
    with context.Pool(processors, initializer=_begin, initargs=(work,)) as pool:
        workers = _children() - others
        results = pool.imap(_call, parts)
        for _ in parts:
            yield from _next(results, workers)


def _next(results: Any, workers: set[int | None]) -> list[Any]:
    """The results of the next part; a pool would wait for ever for those of a killed process."""
    while True:
        try:
            part: list[Any] = results.next(timeout=_LOOK_EVERY)
            return part
        except multiprocessing.TimeoutError as error:
            if not workers <= _children():
                raise DataError(
                    "one of the processes that make the images was killed, perhaps for lack of "
                    "memory: run the command again with more of it, or with fewer processors "
                    "(taskset)"
                ) from error


def _children() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


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


def _call(rows: range) -> list[Any]:
    assert _work is not None
    return [_work(row) for row in rows]
