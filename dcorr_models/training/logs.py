"""Where the numbers of a run go: one CSV, TensorBoard if installed, and a progress bar."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from dcorr_models.errors import RunError
from dcorr_models.whole_files import whole_file

__all__ = ["COLUMNS", "CsvLog", "Meter", "Progress", "read_log", "tensorboard_writer"]

COLUMNS = ("stage", "step", "seconds", "name", "value")


class Meter:
    """Running means of detached scalars, without reading the device.

    Two operations a step however many the values: a GPU takes longer to begin one than to add.
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], Tensor] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Adds one step's values; a name may be absent in some steps."""
        names = tuple(values)
        row = torch.stack([value.float() for value in values.values()])
        self._sums[names] = self._sums[names] + row if names in self._sums else row
        self._counts[names] = self._counts.get(names, 0) + 1

    def flush(self) -> tuple[list[str], Tensor]:
        """Names and means since the last call (one tensor, still on its device); empties it."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for names, row in self._sums.items():
            for name, value in zip(names, row, strict=True):
                sums[name] = sums[name] + value if name in sums else value
                counts[name] = counts.get(name, 0) + self._counts[names]
        self._sums, self._counts = {}, {}
        return list(sums), torch.stack([sums[name] / counts[name] for name in sums])


def refuse_non_finite(values: Mapping[str, float], *, stage: str, step: int) -> None:
    """Raises `RunError` for a NaN or an infinity, before it reaches a checkpoint."""
    bad = sorted(name for name, value in values.items() if not math.isfinite(value))
    if bad:
        raise RunError(
            f"{', '.join(bad)} became {values[bad[0]]} at step {step} of stage {stage!r}; earlier "
            "checkpoints are kept: try a smaller learning rate or another precision"
        )


def refuse_non_finite_weights(networks: Mapping[str, nn.Module], *, stage: str, step: int) -> None:
    """Raises `RunError` for networks that diverged in the last update, which no loss has seen."""
    for name, network in networks.items():
        tensors: list[Tensor] = [*network.parameters()] or [*network.buffers()]
        if not torch.stack([t.detach().isfinite().all() for t in tensors]).all():
            raise RunError(
                f"weights of {name!r} became NaN or infinite by step {step} of stage {stage!r}; "
                "earlier checkpoints are kept: try a smaller learning rate"
            )


class CsvLog:
    """Appends rows (stage, step, seconds, name, value); one row a value, for any stage's names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, stage: str, step: int) -> None:
        """Drops what a killed run wrote after its last checkpoint, and a half-written line."""
        if not self.path.exists():
            return
        kept = [r for r in read_log(self.path) if r["stage"] != stage or r["step"] <= step]
        with whole_file(self.path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows([row[column] for column in COLUMNS] for row in kept)

    def write(self, stage: str, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """One row a value; the file is closed again, so that a kill loses nothing."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerows([stage, step, f"{seconds:.3f}", k, repr(v)] for k, v in values.items())


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log with numbers as numbers; an incomplete last line is left out."""
    try:
        text = path.read_text()
        if not text.endswith("\n"):
            text = text[: text.rfind("\n") + 1]
        return [
            {
                "stage": row["stage"],
                "step": int(row["step"]),
                "seconds": float(row["seconds"]),
                "name": row["name"],
                "value": float(row["value"]),
            }
            for row in csv.DictReader(text.splitlines())
        ]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"{path} cannot be read as a log ({reason}): move it away to go on without its past"
        ) from error


def tensorboard_writer(folder: Path, *, purge_step: int) -> Any | None:
    """A `SummaryWriter`, or None where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=purge_step)


class Progress:
    """A bar with the losses and the time left; plain lines where there is no terminal.

    Args:
        label: the stage's name.
        total: steps of the stage.
        done: steps done before, in a resumed run.
        enabled: False on all processes but the first.
        every: seconds between plain lines.
    """

    def __init__(
        self, label: str, *, total: int, done: int = 0, enabled: bool = True, every: float = 15.0
    ) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=label,
            total=total,
            initial=done,
            disable=not (enabled and terminal),
            unit="step",
            dynamic_ncols=True,
        )
        self._lines = enabled and not terminal
        self._every, self._label, self._total = every, label, total
        self._done, self._first = done, done
        self._start = self._last = time.monotonic()
        self._text = ""

    def advance(self) -> None:
        """One step done."""
        self._done += 1
        self._bar.update()
        now = time.monotonic()
        if self._lines and (self._done == self._total or now - self._last >= self._every):
            self._last = now
            left = (now - self._start) / (self._done - self._first) * (self._total - self._done)
            print(
                f"{self._label} {self._done}/{self._total}, {left:.0f} s left  {self._text}",
                file=sys.stderr,
                flush=True,
            )

    def show(self, values: Mapping[str, float]) -> None:
        """The losses beside the bar."""
        self._text = ", ".join(f"{k.removeprefix('loss/')} {v:.3g}" for k, v in values.items())
        self._bar.set_postfix_str(self._text)

    def close(self) -> None:
        """Leaves the finished bar on the screen."""
        self._bar.close()
