"""The fused kernels on a CUDA device: first their results, then their time and memory.

    python benchmarks/fused_check.py [--quick] [--tune] [--out benchmarks/results/fused.csv]

Needs torch and Triton, nothing else. Each case is compared with the float64 definition, taken from
its rows of pairs block by block on the same device, before it is timed; a case that is off is named
and left out of the CSV file, and the command then ends with an error.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import machine, summary, write_rows

from dcorr import dcov2
from dcorr.pairwise import fused

DEVICE = torch.device("cuda")

# Errors allowed: of the value, relative; of the gradient, relative to its largest entry.
VALUE, GRADIENT = 1e-5, 1e-4

# The unbiased statistic of independent samples is a small difference of large sums.
UNBIASED = 1e-4

PROBED_ROWS = 64
PAIRS_AT_ONCE = 1 << 27


class Case(NamedTuple):
    """Sizes, and what is asked of value and gradient together: seconds, and extra bytes."""

    n: int
    p: int
    q: int
    seconds: float | None = None
    memory: float | None = None


TABLE = [
    *(Case(n, p, q) for n in (128, 256, 512, 1024) for p, q in ((10, 10), (40, 1000))),
    Case(4096, 10, 64),
    Case(8192, 10, 64),
    Case(16_384, 64, 64),
    Case(65_536, 64, 64, 0.060, 256e6),
    Case(65_536, 512, 512),
    Case(1_000_000, 16, 16, 8.0, 1e9),
]
CHECKED_ONLY = [
    Case(5, 3, 2), Case(257, 1, 2), Case(300, 3, 17), Case(1000, 130, 9), Case(4097, 33, 65),
    Case(8192, 10, 10), Case(20_001, 8, 8), Case(70_001, 20, 3),
]  # fmt: skip


def draw(case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Dependent samples, far from the origin, with some coincident and some near points."""
    generator = torch.Generator(DEVICE).manual_seed(case.n + case.p)
    x, y = (torch.randn(case.n, k, device=DEVICE, generator=generator) for k in case[1:3])
    y[:, 0] += x[:, 0]
    x[1], x[3] = x[0], x[2] + 1e-4
    return (x + 10).to(dtype), y.to(dtype)


# -- the definition -------------------------------------------------------------------------------


class Exact(NamedTuple):
    """dCov² in float64, biased and unbiased, and some rows of the gradients of the biased one."""

    biased: float
    unbiased: float
    scale: float
    """The standard deviation that the unbiased statistic of such samples has if independent."""
    rows: Tensor
    gradients: list[Tensor]


def distances(x: Tensor, rows: Tensor) -> Tensor:
    return torch.cdist(x[rows], x, compute_mode="donot_use_mm_for_euclid_dist")


def exact(x: Tensor, y: Tensor) -> Exact:
    n = len(x)
    x, y = x.double(), y.double()
    blocks = torch.arange(n, device=DEVICE).split(max(1, PAIRS_AT_ONCE // n))
    means = [torch.cat([distances(t, rows).mean(1) for rows in blocks]) for t in (x, y)]

    def centred(k: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        d = distances((x, y)[k], rows)
        return d - means[k][rows, None] - means[k] + means[k].mean(), d

    sums = torch.zeros(3, dtype=torch.float64, device=DEVICE)
    for rows in blocks:
        a, b = (centred(k, rows)[0] for k in (0, 1))
        sums += torch.stack([(a * b).sum(), (a * a).sum(), (b * b).sum()])
    ab, aa, bb = (sums / n**2).tolist()
    r, s = means
    # From means of centred distances to the U-statistic.
    total = ab + 2 * (r @ s).item() / n - r.mean().item() * s.mean().item()
    unbiased = n / (n - 3) * total - 2 * n / (n - 2) / (n - 3) * (r @ s).item()
    unbiased += n / (n - 1) * n / (n - 2) * n / (n - 3) * r.mean().item() * s.mean().item()
    probed = torch.linspace(0, n - 1, min(n, PROBED_ROWS), device=DEVICE).long()
    gradients = []
    for k, t in enumerate((x, y)):
        (_, d), (other, _) = centred(k, probed), centred(1 - k, probed)
        force = torch.where(d == 0, 0.0, 2 * other / n**2 / d)
        gradients.append(force.sum(1, keepdim=True) * t[probed] - force @ t)
    return Exact(ab, unbiased, (2 * aa * bb) ** 0.5 / n, probed, gradients)


def errors(x: Tensor, y: Tensor, right: Exact) -> dict[str, float]:
    """Return how far the fused results are off, in units of what is allowed."""
    free = [t.clone().requires_grad_() for t in (x, y)]
    value = dcov2(*free, method="fused")
    found = torch.autograd.grad(value, free)
    off = {"value": abs(value.item() - right.biased) / right.biased / VALUE}
    unbiased = dcov2(x, y, unbiased=True, method="fused").item()
    size = max(abs(right.unbiased), right.scale)
    off["unbiased"] = abs(unbiased - right.unbiased) / size / UNBIASED
    for name, ours, theirs in zip("xy", found, right.gradients, strict=True):
        error = (ours[right.rows].double() - theirs).abs().max() / theirs.abs().max()
        off[f"gradient {name}"] = error.item() / GRADIENT
    return off


def is_right(case: Case) -> bool:
    x, y = draw(case)
    off = errors(x, y, exact(x, y))
    right = all(error <= 1 for error in off.values())  # False for NaN
    told = ", ".join(f"{name} {error:.2g}" for name, error in off.items())
    print(
        f"{'right' if right else 'WRONG'} {tuple(case[:3])}: {told} of what is allowed", flush=True
    )
    return right


# -- time and memory ------------------------------------------------------------------------------


def both(x: Tensor, y: Tensor, method: str) -> Tensor:
    value = dcov2(x, y, method=method)
    torch.autograd.grad(value, (x, y))
    return value


def definition(x: Tensor, y: Tensor) -> Tensor:
    """torch.cdist and autograd."""
    a, b = (torch.cdist(t, t) for t in (x, y))
    a, b = (d - d.mean(0) - d.mean(1, keepdim=True) + d.mean() for d in (a, b))
    value = (a * b).mean()
    torch.autograd.grad(value, (x, y))
    return value


def graph_of(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of a CUDA graph of a call."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def times(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Seconds on the device, the calls in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(rounds + 2):
        for name, call in calls.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            if round_ >= 2:
                taken[name].append(start.elapsed_time(end) / 1e3)
    return taken


def extra_memory(call: Callable[[], Any]) -> int:
    """Bytes at the peak of a call beyond those before it."""
    call()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def measured(case: Case) -> list[dict[str, Any]]:
    x, y = (t.requires_grad_() for t in draw(case))
    value = dcov2(x, y, method="fused")
    calls: dict[str, Callable[[], Any]] = {
        "value": lambda: dcov2(x.detach(), y.detach(), method="fused"),
        "gradient": lambda: torch.autograd.grad(value, (x, y), retain_graph=True),
        "value and gradient": lambda: both(x, y, "fused"),
    }
    if case.n <= 1024:
        rivals: dict[str, Callable[[], Any]] = {
            "value and gradient, graph": lambda: both(x, y, "fused"),
            "dense, value and gradient, graph": lambda: both(x, y, "dense"),
            "torch.cdist, value and gradient, graph": lambda: definition(x, y),
        }
        calls |= {name: graph_of(call) for name, call in rivals.items()}
    rows = []
    for name, taken in times(calls, 50 if case.n <= 8192 else 5).items():
        median, low, high = summary(taken)
        memory = extra_memory(calls[name]) if "graph" not in name else ""
        row = {"what": name, "n": case.n, "p": case.p, "q": case.q, "seconds": median}
        row |= {"low": low, "high": high, "extra bytes": memory}
        if name == "value and gradient":
            row |= {"seconds wanted": case.seconds or "", "bytes wanted": case.memory or ""}
        print(f"  {name}: {1e3 * median:.3f} ms, extra bytes {memory}", flush=True)
        rows.append(row)
    return rows


def tune(case: Case) -> None:
    """Print the time of one case for several blocks."""
    x, y = (t.requires_grad_() for t in draw(case))
    value = dcov2(x, y, method="fused")
    for kernel in ("moments", "gradient"):
        for form in ("few", "halves", "chunks"):
            fastest = fused.BLOCKS[kernel, form]
            for rows, columns, warps, stages in (
                (64, 32, 4, 1), (64, 32, 4, 2), (64, 64, 4, 2), (64, 64, 8, 2),
                (128, 32, 8, 2), (128, 64, 8, 2), (128, 64, 8, 3),
            ):  # fmt: skip
                fused.BLOCKS[kernel, form] = (fused.Blocks(rows, columns, warps, stages),)
                calls: dict[str, Callable[[], Any]] = {
                    "moments": lambda: dcov2(x.detach(), y.detach(), method="fused"),
                    "gradient": lambda: torch.autograd.grad(value, (x, y), retain_graph=True),
                }
                try:
                    median = summary(times({kernel: calls[kernel]}, 3)[kernel]).median
                    print(f"  {kernel}, {form}, {rows} x {columns}, {warps} warps, "
                          f"{stages} stages: {1e3 * median:.3f} ms", flush=True)  # fmt: skip
                except Exception as error:  # a device too small for these blocks
                    print(f"  {kernel}, {form}, {rows} x {columns}: {error}", flush=True)
            fused.BLOCKS[kernel, form] = fastest


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="leave out more than 20,001 samples")
    parser.add_argument("--tune", action="store_true", help="time several block sizes as well")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fused.csv")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("this measures on a CUDA device, and there is none", file=sys.stderr)
        return 2
    import triton

    about = machine(DEVICE) | {"triton": triton.__version__}
    print(about)
    most = 20_001 if arguments.quick else 1 << 21
    wrong = [case for case in CHECKED_ONLY if case.n <= most and not is_right(case)]
    rows: list[dict[str, Any]] = []
    for case in (case for case in TABLE if case.n <= most):
        if not is_right(case):
            wrong.append(case)
            continue
        rows += [row | about for row in measured(case)]
        write_rows(arguments.out, rows)  # what was measured is kept, whatever comes next
    if arguments.tune:
        tune(TABLE[-3] if not arguments.quick else TABLE[-4])
    print(f"{len(rows)} rows in {arguments.out}; wrong: {wrong or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
