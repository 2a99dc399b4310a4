"""Distance covariance against every peer: check the result, then time it, then write the row.

    python benchmarks/distance_covariance.py                    # all sections on the CPU
    python benchmarks/distance_covariance.py --device cuda
    python benchmarks/distance_covariance.py --sections crossover
    python benchmarks/distance_covariance.py --quick            # few samples, to see that it runs

Rivals of a case are timed in turn within one run, value alone, backward alone, and value with
gradient. What fails its check is not timed. A rival that is not installed, cannot run the problem
or would pass the limits of time or memory has a row that says so.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cases
import torch
from cases import Case, Target
from checks import CheckFailedError, Reference, check, reference
from measure import (
    Call,
    Prepared,
    keep_threads,
    machine,
    read_rows,
    seconds,
    summary,
    time_for,
    write_rows,
)
from memory import peak_mb
from peers import RIVALS, Work, samples
from processes import SECTION as PROCESSES
from processes import rows_of_processes

RESULTS = Path(__file__).parent / "results"
SECTIONS = ("targets", "others", "crossover", PROCESSES, "growth")
# What a rival may raise who is not installed, or cannot run this problem.
CANNOT = (ImportError, TypeError, ValueError, RuntimeError, MemoryError, ArithmeticError)


class Limits:
    """Who is left out: predicted from the same rival's last case, before anything is computed."""

    def __init__(self, seconds: float, gigabytes: float) -> None:
        self.seconds, self.bytes = seconds, 1e9 * gigabytes
        self.last: dict[tuple[str, str], tuple[int, float]] = {}

    def reason(self, case: Case, name: str) -> str:
        """Why a rival is left out; empty if it is not."""
        rival = RIVALS[name]
        if rival.univariate and case.p * case.q != 1:
            return "left out: for one dimension only"
        width = 4 if case.dtype == "float32" and rival.differentiable else 8
        needed = width * rival.numbers(case.n, case.p + case.q)
        if needed > self.bytes:
            return f"left out: about {needed / 1e9:.0f} GB, limit {self.bytes / 1e9:.0f} GB"
        if (name, case.name) in self.last:
            n, seconds = self.last[name, case.name]
            predicted = seconds * (case.n / n) ** rival.order
            if predicted > self.seconds:
                return f"left out: about {predicted:.0f} s a call, limit {self.seconds:.0f} s"
        return ""

    def too_slow(self, work: Work, device: torch.device) -> str:
        """Why a rival is left out after one call, of which nothing was known before."""
        taken = seconds(work.forward or work.both, device)
        return f"left out: {taken:.0f} s a call, limit {self.seconds:.0f} s" * (
            taken > self.seconds
        )

    def learn(self, case: Case, name: str, seconds: float) -> None:
        """Remember a time; small cases say nothing of large ones, where other costs rule."""
        if case.section == "growth" and case.n >= 1024:
            self.last[name, case.name] = case.n, seconds


def run_case(
    case: Case, device: torch.device, limits: Limits, budget: float
) -> list[dict[str, Any]]:
    threads = torch.get_num_threads()
    x, y = samples(case.n, case.p, case.q, dtype=case.dtype, device=device.type)
    rows = {name: describe(case, name) for name in case.rivals}
    works: dict[str, Work] = {}
    right: Reference | None = None
    for name, row in rows.items():
        row["status"] = limits.reason(case, name)
        if row["status"]:
            continue
        try:
            work = RIVALS[name].make(x, y)
            row["status"] = limits.too_slow(work, device)
            if row["status"]:
                continue
            right = right or reference(x, y)
            errors = check(RIVALS[name], work, x, y, right)
        except CheckFailedError as failure:
            row["status"] = f"check failed: {failure}"
        except CANNOT as reason:
            row["status"] = f"missing: {first_line(reason)}"
        else:
            row.update(status="timed", value_error=errors.value, gradient_error=errors.gradient)
            works[name] = work
    del right
    keep_threads(threads)
    time_works(case, works, rows, device, budget)
    keep_threads(threads)
    for name in works:
        limits.learn(case, name, max(float(rows[name].get(f"{p}_ms", 0)) for p in case.parts) / 1e3)
        if case.memory:
            rows[name]["peak_mb"] = peak_mb(
                name, case.n, case.p, case.q, case.dtype, device.type, threads
            )
    return [{**row, **machine(device)} for row in rows.values()]


def describe(case: Case, name: str) -> dict[str, Any]:
    sizes = {"n": case.n, "p": case.p, "q": case.q, "dtype": case.dtype}
    library = RIVALS[name].installed()
    return {"section": case.section, "case": case.name, "rival": name, **sizes, "library": library}


def time_works(
    case: Case,
    works: dict[str, Work],
    rows: dict[str, dict[str, Any]],
    device: torch.device,
    budget: float,
) -> None:
    """Time all rivals and parts of a case in turn, and write medians and quartiles to the rows."""
    calls: dict[str, Call] = {}
    for name, work in works.items():
        parts: dict[str, Call | None] = {"forward": work.forward, "both": work.both}
        if work.graph is not None and work.backward is not None:
            parts["backward"] = Prepared(work.graph, work.backward)
        for part in case.parts:
            found = parts.get(part)
            if found is not None:
                calls[f"{name}/{part}"] = found
    if not calls:
        return
    times = time_for(calls, budget=budget, least=case.least_rounds, most=300, device=device)
    for key, values in times.items():
        name, part = key.rsplit("/", 1)
        timing = summary(values)
        rows[name].update(
            {
                "rounds": len(values),
                f"{part}_ms": 1e3 * timing.median,
                f"{part}_low_ms": 1e3 * timing.low,
                f"{part}_high_ms": 1e3 * timing.high,
            }
        )


def first_line(reason: BaseException) -> str:
    lines = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {lines[0] if lines else ''}"


def print_rows(rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        head = f"{row['case']:18s} n={row['n']:<9d} {row['rival']:18s}"
        times = " ".join(
            f"{part} {float(row[f'{part}_ms']):10.3f} ms"
            for part in ("forward", "backward", "both")
            if row.get(f"{part}_ms") not in (None, "")
        )
        peak = f" peak {row['peak_mb']:.1f} MB" if row.get("peak_mb") is not None else ""
        print(f"{head} {times}{peak}" if row["status"] == "timed" else f"{head} {row['status']}")
    sys.stdout.flush()


def print_targets(rows: list[dict[str, Any]], targets: list[Target]) -> None:
    print("\ntargets")
    for target in targets:
        if not any(row["case"] == target.case for row in rows):
            continue
        found = target.measure({r["rival"]: r for r in rows if r["case"] == target.case})
        sign = "at least" if target.at_least else "at most"
        verdict = "unmeasured" if found is None else "met" if target.met(found) else "NOT MET"
        value = "" if found is None else f"{found:.2f} {target.unit}"
        print(
            f"{target.case:16s} {target.claim:70s} {value:>12s}  "
            f"({sign} {target.number:g} {target.unit}): {verdict}"
        )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--sections", nargs="+", default=list(SECTIONS), choices=SECTIONS)
    parser.add_argument("--cases", nargs="+", help="only the cases of these names")
    parser.add_argument("--quick", action="store_true", help="few samples, two rounds")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds of timing a case")
    parser.add_argument("--time-limit", type=float, default=20.0, help="seconds a call")
    parser.add_argument("--memory-limit", type=float, default=4.0, help="gigabytes a call")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--out", type=Path, help="CSV file; sections not run keep their rows")
    options = parser.parse_args(arguments)
    if options.out is None:
        name = "quick" if options.quick else "cuda" if options.device == "cuda" else "cpu"
        options.out = RESULTS / f"distance_covariance_{name}.csv"
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run, write the CSV file after every case, and return 1 where this package failed a check."""
    options = parse(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    device, start = torch.device(options.device), time.perf_counter()
    limits = Limits(options.time_limit, options.memory_limit)
    budget = 0.0 if options.quick else options.budget
    chosen = (cases.quick_cases if options.quick else cases.all_cases)(options.device)
    rows: list[dict[str, Any]] = []
    kept = [r for r in read_rows(options.out) if not measured_again(r, options)]

    def add(new: list[dict[str, Any]]) -> None:
        print_rows(new)
        rows.extend(new)
        write_rows(options.out, kept + rows)

    for case in chosen:
        if measured_again({"section": case.section, "case": case.name}, options):
            add(run_case(case, device, limits, budget))
    if PROCESSES in options.sections and options.device == "cpu" and not options.cases:
        add(rows_of_processes(quick=options.quick))
    if not options.quick:
        print_targets(rows, cases.TARGETS[options.device])
    failed = [row["rival"] for row in rows if row["status"].startswith("check failed")]
    print(f"\n{len(failed)} failed checks, {time.perf_counter() - start:.0f} s; {options.out}")
    # What others get wrong stands in their row and is no failure of the run.
    return int(any(name not in RIVALS or RIVALS[name].own for name in failed))


def measured_again(row: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether this run replaces a row of an earlier one."""
    named = not options.cases or row["case"] in options.cases
    return row["section"] in options.sections and named


if __name__ == "__main__":
    sys.exit(main())
