"""The tables of docs/benchmarks.md, from the rows of the runs.

    python benchmarks/report.py            # write them into the page
    python benchmarks/report.py --check    # say whether the page is what the rows give

A table stands between two comments, `<!-- table: NAME -->` and `<!-- end -->`; the words around it
are not touched. A test of the project runs the check.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cases
from cases import Target
from measure import read_rows

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"
BLOCK = re.compile(r"(<!-- table: ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

Row = dict[str, str]
PARTS = {"forward": "value", "backward": "backward", "both": "value and gradient"}


def render(page: str, results: Path = RESULTS) -> str:
    """The page with every table made again."""

    def replaced(match: re.Match[str]) -> str:
        kind, _, rest = match[2].partition(" ")
        return f"{match[1]}{TABLES[kind](results, rest)}\n{match[3]}"

    return BLOCK.sub(replaced, page)


def rows_of(results: Path, device: str, section: str = "") -> list[Row]:
    rows = read_rows(results / f"distance_covariance_{device}.csv")
    return [row for row in rows if section in ("", row["section"])]


# -- tables ---------------------------------------------------------------------------------------


def machine(results: Path, device: str) -> str:
    """Where and with what the rows were made."""
    rows = rows_of(results, device)
    if not rows:
        return UNMEASURED[device]
    names = {
        "machine": {row["device"].split(": ", 1)[1] for row in rows},
        "threads of torch": {row["threads"] for row in rows if row["section"] != "processes"},
        "torch": {row["torch"] for row in rows},
        "Python": {row["python"] for row in rows},
        "peers": {lib for row in rows if is_peer(lib := row["library"])},
        "commit": {row["commit"] for row in rows},
    }
    return table(["", ""], [[k, ", ".join(sorted(v))] for k, v in names.items() if v])


def targets(results: Path, device: str) -> str:
    """Each target of the design with what was measured."""
    rows, lines = rows_of(results, device), []
    if not rows:
        return UNMEASURED[device]
    for target in cases.TARGETS[device]:
        chosen = [row for row in rows if row["case"] == target.case]
        found = target.measure({row["rival"]: row for row in chosen})
        wanted = f"{'≥' if target.at_least else '≤'} {target.number:g} {target.unit}"
        measured = "unmeasured" if found is None else f"{number(found)} {target.unit}"
        sizes = describe(chosen[0]) if chosen else target.case
        lines.append([sizes, target.claim, wanted, measured, verdict(target, found)])
    return table(["samples", "what", "wanted", "measured", ""], lines)


def times(results: Path, rest: str) -> str:
    """Medians, quartiles, memory and errors of a section's cases, or why there are none."""
    device, _, section = rest.partition(" ")
    lines, last = [], ""
    for row in rows_of(results, device, section):
        sizes = describe(row)
        cells = [timing(row, part) for part in PARTS]
        if row["status"] != "timed":
            cells = [row["status"], "", ""]
        peak = number(row["peak_mb"]) if row.get("peak_mb") else ""
        lines.append(["" if sizes == last else sizes, row["rival"], *cells, peak, errors(row)])
        last = sizes
    if not lines:
        return UNMEASURED[device]
    heads = [f"{words}, ms" for words in PARTS.values()]
    return table(["samples", "", *heads, "peak, MB", "relative error"], lines)


def crossover(results: Path, device: str) -> str:
    """Time of tiled in times of dense, and from where on it is the faster one."""
    rows = rows_of(results, device, "crossover")
    if not rows:
        return UNMEASURED[device]
    curves: dict[tuple[str, str], dict[int, dict[str, Row]]] = {}
    for row in rows:
        curve = curves.setdefault((row["p"], row["q"]), {})
        curve.setdefault(int(row["n"]), {})[row["rival"]] = row
    ratio = cases.speedup("dcorr tiled", of="dcorr dense")
    sizes = sorted({n for curve in curves.values() for n in curve})
    lines = []
    for (p, q), curve in curves.items():
        ratios = {n: ratio(curve.get(n, {})) for n in sizes}
        cells = ["" if r is None else f"{r:.2f}" for r in ratios.values()]
        lines.append([f"({p}, {q})", *cells, crossing(ratios)])
    return table(["dimensions", *(f"n = {n}" for n in sizes), "tiled is faster from"], lines)


def crossing(ratios: dict[int, float | None]) -> str:
    """The smallest n from which on all measured ratios are at most 1."""
    found = ""
    for n, ratio in sorted(ratios.items(), reverse=True):
        if ratio is None:
            continue
        if ratio > 1:
            break
        found = str(n)
    return found or "nowhere here"


def processes(results: Path, device: str) -> str:
    """One process with all samples against several with a part each."""
    rows = rows_of(results, device, "processes")
    if not rows:
        return UNMEASURED[device]
    lines = []
    for row in rows:
        pairs = f"{float(row['pairs']) / int(row['n']) ** 2:.3f} n²" if row.get("pairs") else ""
        cells = [timing(row, "forward"), timing(row, "both")]
        if row["status"] != "timed":
            cells = [row["status"], ""]
        peak = number(row["peak_mb"]) if row.get("peak_mb") else ""
        lines.append([describe(row), row["rival"], *cells, pairs, peak])
    heads = ["samples", "", "value, ms", "value and gradient, ms", "pairs a process"]
    return table([*heads, "peak a process, MB"], lines)


def growth(results: Path, device: str) -> str:
    """How far each curve goes, and why it ends there."""
    rows = rows_of(results, device, "growth")
    if not rows:
        return UNMEASURED[device]
    curves: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        curves.setdefault((f"({row['p']}, {row['q']})", row["rival"]), []).append(row)
    lines = []
    for (dimensions, rival), curve in curves.items():
        timed = [row for row in curve if row["status"] == "timed"]
        ends = [row["status"] for row in curve if row["status"] != "timed"]
        cells = ["–", "", "", ""]
        if timed:
            last = timed[-1]
            peak = number(last["peak_mb"]) if last.get("peak_mb") else ""
            cells = [last["n"], *(timing(last, part) for part in ("forward", "both")), peak]
        lines.append([dimensions, rival, *cells, ends[0] if ends else ""])
    heads = ["dimensions", "", "largest n", "value, ms", "value and gradient, ms", "peak, MB"]
    return table([*heads, "then"], lines)


def figure(results: Path, device: str) -> str:
    """The curves, drawn when the page is built: the page changes with the rows, and so do they."""
    if not rows_of(results, device, "growth"):
        return UNMEASURED[device]
    return FIGURE.format(device=device)


def train(results: Path, rest: str) -> str:
    """One CDNet step: whole, or by part."""
    rows = read_rows(results / "train_step.csv")
    whole = {row["case"]: row for row in rows if row["part"] == "whole"}
    if rest == "whole":
        lines = [[name, quartiles(row, "")] for name, row in whole.items()]
        medians = {name: float(row["median_ms"]) for name, row in whole.items()}
        step = medians["simultaneous"]
        lines.append(["simultaneous / sequential", f"{step / medians['sequential']:.3f}"])
        share = medians["regulariser alone"] / step
        lines.append(["regulariser alone / simultaneous", f"{share:.2%}"])
        return table(["", "ms"], lines)
    parts = list(dict.fromkeys(row["part"] for row in rows if row["part"] != "whole"))
    forms = list(dict.fromkeys(row["case"] for row in rows if row["part"] != "whole"))
    found = {(row["case"], row["part"]): number(row["median_ms"]) for row in rows}
    lines = [[part, *(found.get((form, part), "") for form in forms)] for part in parts]
    return table(["part, ms", *forms], lines)


TABLES: dict[str, Callable[[Path, str], str]] = {
    "machine": machine,
    "targets": targets,
    "times": times,
    "crossover": crossover,
    "processes": processes,
    "growth": growth,
    "figure": figure,
    "train": train,
}

FIGURE = """```{{eval-rst}}
.. plot::

   import sys

   sys.path.insert(0, "../benchmarks")
   import plots

   plots.growth("{device}")
```"""

UNMEASURED = {
    "cpu": "Unmeasured: `make bench` writes the rows.",
    "cuda": "Unmeasured: `python benchmarks/distance_covariance.py --device cuda` writes the rows.",
}

# -- cells ----------------------------------------------------------------------------------------


def describe(row: Row) -> str:
    return f"n = {int(row['n']):,}, dimensions ({row['p']}, {row['q']}), {row['dtype']}"


def verdict(target: Target, found: float | None) -> str:
    if found is None:
        return ""
    if target.met(found):
        return "met"
    share = found / target.number if target.at_least else target.number / found
    return f"**not met**: {share:.0%} of it"


def timing(row: Row, part: str) -> str:
    return quartiles(row, f"{part}_")


def quartiles(row: Row, prefix: str) -> str:
    """A median and its quartiles."""
    if not row.get(f"{prefix}median_ms", row.get(f"{prefix}ms")):
        return ""
    median = row.get(f"{prefix}median_ms") or row[f"{prefix}ms"]
    low, high = row[f"{prefix}low_ms"], row[f"{prefix}high_ms"]
    return f"{number(median)} ({number(low)}–{number(high)})"


def errors(row: Row) -> str:
    found = [row.get(f"{name}_error") or "" for name in ("value", "gradient")]
    return ", ".join(f"{float(error):.0e}" for error in found if error)


def number(value: Any) -> str:
    """Three digits, and no fewer than those before the point."""
    value = float(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def is_peer(library: str | None) -> bool:
    return bool(library) and not str(library).startswith("dcorr")


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    drawn = [heads, ["---"] * len(heads), *lines]
    safe = ([cell.replace("|", "\\|") for cell in cells] for cells in drawn)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in safe)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the page is old")
    options = parser.parse_args()
    page = PAGE.read_text(encoding="utf-8")
    made = render(page)
    if options.check:
        print("the page is what the rows give" if made == page else "the page is old")
        return int(made != page)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
