"""Run by test_process_group.py: one process of several, which writes the results of all cases.

python -m tests.dcorr.processes FOLDER RANK SIZE
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.dcorr.process_cases import (
    COMPARED,
    ONLY,
    SPECIAL,
    STATISTICS,
    TRAININGS,
    Result,
    Seat,
)
from tests.dcorr.process_mistakes import MISTAKES


def work(seat: Seat) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for name, mistake in MISTAKES.items():
        try:
            mistake.call(seat.rank)
            results[name] = {"error": "none", "text": ""}
        except Exception as error:
            results[name] = {"error": type(error).__name__, "text": str(error)}
    # After the mistakes: nobody may have been left waiting, or with a message of another call.
    for name, case in (STATISTICS | TRAININGS | COMPARED | SPECIAL).items():
        if ONLY.get(name, seat.size) == seat.size:
            results[name] = case(seat, seat.size)
    return results


def main() -> None:
    folder, rank, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'meeting'}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=120),
    )
    temporary = folder / f"rank{rank}.tmp"
    torch.save(work(Seat(rank, size)), temporary)
    temporary.replace(folder / f"rank{rank}.pt")
    dist.barrier()
    # gloo may abort when the interpreter tears it down; everything is on the disk.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
