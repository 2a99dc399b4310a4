"""Several processes with a part of the samples each, against one process with all of them.

Every process has one thread. In each round the first process computes the whole alone while the
others wait, and then all compute together; a round's time together is that of the slowest process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from checks import ByDefinition, CheckFailedError, Errors, off, relative
from measure import machine, summary
from memory import WARM_UP_SAMPLES, extra_on_cpu
from peers import samples
from torch import Tensor

import dcorr
from tests.dcorr.tolerances import tolerance

SECTION = "processes"
COUNT, SAMPLES, FEATURES = 2, 4096, (10, 64)
# Of the gradient against that of one process, in float64.
SAME_GRADIENT = 1e-6
TIMEOUT = 600
# What torch calls the roots of squared distances. The profiler sees them inside every operator.
ROOTS = ("aten::sqrt", "aten::sqrt_", "aten::_cdist_forward")


def rows_of_processes(*, quick: bool) -> list[dict[str, Any]]:
    """Start the processes, and make rows of what they have written."""
    n = 40 if quick else SAMPLES
    settings = {"n": n, "count": COUNT, "rounds": 2 if quick else 15}
    sizes = {"n": n, "p": FEATURES[0], "q": FEATURES[1], "dtype": "float64"}
    description = {**machine(torch.device("cpu")), "threads": "1"}
    base = {"section": SECTION, "case": SECTION, **sizes}
    names = {"alone": "1 process", "together": f"{COUNT} processes"}
    try:
        written = run(settings)
        errors = check(written, n)
    except (RuntimeError, CheckFailedError) as reason:
        failed = isinstance(reason, CheckFailedError)
        status = f"{'check failed' if failed else 'missing'}: {reason}"
        return [{**base, "rival": name, "status": status, **description} for name in names.values()]
    rows = []
    for kind, name in names.items():
        row = {**base, "rival": name, "status": "timed"}
        row["value_error"], row["gradient_error"] = errors[kind]
        ranks = written if kind == "together" else written[:1]
        for part in ("forward", "both"):
            rounds = zip(*(rank["seconds"][f"{kind}/{part}"] for rank in ranks), strict=True)
            timing = summary(max(round_) for round_ in rounds)
            row[f"{part}_ms"] = 1e3 * timing.median
            row[f"{part}_low_ms"], row[f"{part}_high_ms"] = 1e3 * timing.low, 1e3 * timing.high
        row["rounds"] = settings["rounds"]
        row["pairs"] = max(rank["pairs"][kind] for rank in ranks)
        row["peak_mb"] = max(rank["peak_mb"][kind] for rank in ranks)
        rows.append({**row, **description})
    return rows


def run(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """What each process has written, in the order of their ranks."""
    with tempfile.TemporaryDirectory() as folder:
        started = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(Path(__file__).resolve()),
                    json.dumps({**settings, "rank": rank, "folder": folder}),
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(settings["count"])
        ]
        try:
            said = [process.communicate(timeout=TIMEOUT)[1] for process in started]
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not finished after {TIMEOUT} s") from None
        finally:
            for process in started:
                process.kill()
                process.wait()
        # Files decide, not exit codes: gloo may abort once all is done.
        files = [Path(folder, f"{rank}.json") for rank in range(settings["count"])]
        for rank, file in enumerate(files):
            if not file.exists():
                raise RuntimeError(f"process {rank}: {said[rank].strip().splitlines()[-1:]}")
        return [json.loads(file.read_text()) for file in files]


def check(written: list[dict[str, Any]], n: int) -> dict[str, Errors]:
    """Values against the definition, and the gradient together against that alone."""
    right = ByDefinition(*samples(n, *FEATURES, dtype="float64"))
    limits = {name: tolerance(torch.float64, name)["rtol"] for name in ("value", "gradient")}
    grads, errors = {}, {}
    for kind, ranks in (("alone", written[:1]), ("together", written)):
        x_grad, y_grad = grads[kind] = [
            torch.cat([torch.tensor(rank["grads"][kind][k], dtype=torch.float64) for rank in ranks])
            for k in (0, 1)
        ]
        value = max(off(rank["values"][kind], right.value("dcov2")) for rank in ranks)
        errors[kind] = Errors(value, right.gradient_error(x_grad, y_grad))
        for name, error in errors[kind]._asdict().items():
            if not error <= limits[name]:
                raise CheckFailedError(f"{kind}: {name} off by {error:.1e}")
    apart = max(relative(t, a) for t, a in zip(grads["together"], grads["alone"], strict=True))
    if not apart <= SAME_GRADIENT:
        raise CheckFailedError(f"gradients together and alone differ by {apart:.1e}")
    return errors


# -- in each process ------------------------------------------------------------------------------


def main() -> None:
    settings = json.loads(sys.argv[1])
    rank, count, folder = settings["rank"], settings["count"], Path(settings["folder"])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=count,
        timeout=timedelta(seconds=TIMEOUT),
    )  # fmt: skip
    warm_up, work = calls(WARM_UP_SAMPLES, rank, count), calls(settings["n"], rank, count)
    mine = {kind: parts for kind, parts in work.items() if kind == "together" or rank == 0}
    written: dict[str, Any] = {"values": {}, "grads": {}, "pairs": {}, "peak_mb": {}}
    for kind in work:
        dist.barrier()
        if kind in mine:
            warm_up[kind]["both"]()
            written["peak_mb"][kind] = extra_on_cpu(mine[kind]["both"])
            value, *grads = mine[kind]["both"]()
            # Each process holds the same loss, and the gradient is that of their sum.
            share = count if kind == "together" else 1
            written["values"][kind] = value.item()
            written["grads"][kind] = [(g / share).tolist() for g in grads]
            written["pairs"][kind] = pairs(mine[kind]["forward"])
    written["seconds"] = time_rounds(work, mine, settings["rounds"])
    unfinished = folder / f"{rank}.part"
    unfinished.write_text(json.dumps(written))
    unfinished.rename(folder / f"{rank}.json")
    dist.barrier()


def calls(n: int, rank: int, count: int) -> dict[str, dict[str, Callable[[], Any]]]:
    """Value, and value with gradient: of all samples alone, and of this process's together."""
    x, y = samples(n, *FEATURES, dtype="float64")
    share = slice(n * rank // count, n * (rank + 1) // count)
    made = {}
    for kind, rows, options in (
        ("alone", slice(None), {"method": "tiled"}),
        ("together", share, {"method": "tiled", "group": "world"}),
    ):
        leaves = [t[rows].clone().requires_grad_() for t in (x, y)]
        made[kind] = {"forward": forward(leaves, options), "both": both(leaves, options)}
    return made


def forward(leaves: list[Tensor], options: dict[str, Any]) -> Callable[[], Tensor]:
    def call() -> Tensor:
        with torch.no_grad():
            return dcorr.dcov2(*leaves, **options)

    return call


def both(leaves: list[Tensor], options: dict[str, Any]) -> Callable[[], tuple[Tensor, ...]]:
    def call() -> tuple[Tensor, ...]:
        value = dcorr.dcov2(*leaves, **options)
        return value, *torch.autograd.grad(value, leaves)

    return call


def time_rounds(work: dict[str, Any], mine: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Seconds of this process; all wait for each other before each call."""
    taken: dict[str, list[float]] = {f"{kind}/{p}": [] for kind in mine for p in mine[kind]}
    for round_ in range(1 + rounds):
        for kind, parts in work.items():
            for part in parts:
                dist.barrier()
                if kind not in mine:
                    continue
                start = time.perf_counter()
                mine[kind][part]()
                if round_:
                    taken[f"{kind}/{part}"].append(time.perf_counter() - start)
    return taken


def pairs(call: Callable[[], Any]) -> float:
    """Pairs whose distances a call computes in each sample: the roots taken, of two samples."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True
    ) as profile:
        call()
    shapes = [e.input_shapes[0] for e in profile.events() if e.name in ROOTS and e.input_shapes]
    return sum(torch.Size(shape).numel() for shape in shapes) / 2


if __name__ == "__main__":
    main()
