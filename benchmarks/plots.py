"""Figures of docs/benchmarks.md, from the rows of the runs. Drawn by Sphinx's plot directive."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from measure import read_rows

RESULTS = Path(__file__).parent / "results"
CURVES = ("many dimensions", "one dimension")


def growth(device: str) -> None:
    """Time above and memory below, many dimensions left and one right; all axes logarithmic."""
    path = RESULTS / f"distance_covariance_{device}.csv"
    rows = [row for row in read_rows(path) if row["section"] == "growth"]
    colours = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(r["rival"] for r in rows))}
    _, axes = plt.subplots(2, 2, figsize=(10, 8), sharex=True, layout="constrained")
    for column, curve in enumerate(CURVES):
        chosen = [row for row in rows if row["case"] == curve and row["status"] == "timed"]
        for rival in dict.fromkeys(row["rival"] for row in chosen):
            points = [row for row in chosen if row["rival"] == rival]
            draw_rival(axes[:, column], rival, points, colours[rival])
        sizes = f": ({chosen[0]['p']}, {chosen[0]['q']})" if chosen else ": unmeasured"
        axes[0, column].set(title=curve + sizes, ylabel="ms a call")
        axes[1, column].set(xlabel="n", ylabel="peak extra memory, MB")
        for panel in axes[:, column]:
            panel.grid(alpha=0.3)
            if any(len(line.get_xdata()) for line in panel.lines):  # else there is nothing to scale
                panel.set(xscale="log", yscale="log")
        if chosen:
            axes[0, column].legend(fontsize=8)


def draw_rival(
    panels: tuple[plt.Axes, plt.Axes], rival: str, rows: list[dict[str, str]], colour: str
) -> None:
    """One rival's lines: value and gradient full, value alone dashed; the peak below."""
    time, memory = panels
    look = {"color": colour, "marker": "o", "markersize": 3}
    both, forward = series(rows, "both_ms"), series(rows, "forward_ms")
    if both[0]:
        time.plot(*both, label=rival, **look)
        time.plot(*forward, linestyle="--", **look)
    else:
        time.plot(*forward, linestyle="--", label=f"{rival} (value only)", **look)
    memory.plot(*series(rows, "peak_mb"), **look)


def series(rows: list[dict[str, str]], column: str) -> tuple[list[int], list[float]]:
    """Sizes and numbers, of the rows that have the number and it is above 0."""
    points = [(int(r["n"]), float(r[column])) for r in rows if r[column] and float(r[column]) > 0]
    return [n for n, _ in points], [value for _, value in points]
