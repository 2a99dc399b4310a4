"""The backends by name, and which samples each of them takes.

Every property is tested for every method. ``"univariate"`` takes one feature and exponent 1, so the
tests ask here for numbers of features, and parameters that it refuses are no cases of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from dcorr.pairwise import fused
from tests.dcorr import interpreter

# Fused kernels run on a CPU only in a process that interprets them: ``make test-fused``.
FUSED = ("fused",) if interpreter.INTERPRETED else ()
METHODS = ("dense", "tiled", "univariate", *FUSED)


def features(method: str, *counts: int) -> list[int]:
    """Return the numbers of features of samples, or 1 for each where the method takes no more."""
    return [1 if method == "univariate" else count for count in counts]


def exponents(method: str, *values: float) -> list[float]:
    """Return those of the exponents that the method takes."""
    return [v for v in values if v == 1 or method != "univariate"]


def fits(parameters: dict[str, Any], many_features: bool) -> bool:
    """Tell whether parameters of a test, if they hold a method, are a case of it."""
    if parameters.get("method") != "univariate":
        return True
    other_exponent = "exponent" in str(parameters.get("case", ""))
    ones = all(parameters.get(k, 1) == 1 for k in ("p", "q", "exponent"))
    return ones and not other_exponent and not many_features


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Make blocks small, so that few samples already make several."""
    patch.setattr("dcorr.pairwise.tiled.ROWS", 16)
    patch.setattr("dcorr.pairwise.univariate_sums.LEAF_BITS", 1)
    if FUSED:
        interpreter.mend()
        small = {name: (fused.Blocks(32, 32, 4, 1),) for name in fused.BLOCKS}
        patch.setattr("dcorr.pairwise.fused.BLOCKS", small)
