"""The cases of moderate size under pytest-benchmark: `make bench-pytest`, not part of `make test`.

pytest benchmarks/test_speed.py --benchmark-autosave     # then --benchmark-compare
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from cases import CPU_TARGETS, OTHERS, Case
from checks import Reference, check, reference
from measure import Prepared
from peers import RIVALS, Work, samples

# A round of the larger ones takes seconds: the runner is for them.
LARGEST = {"dense": 2048, "univariate": 100_000}

CASES = [
    case
    for case in (*CPU_TARGETS, *OTHERS)
    if case.n <= LARGEST["univariate" if case.p == case.q == 1 else "dense"]
]
RUNS = [
    pytest.param(case, rival, part, id=f"{case.name}-{rival}-{part}".replace(" ", "_"))
    for case in CASES
    for rival in case.rivals
    for part in ("forward", "backward", "both")
    if part == "forward" or RIVALS[rival].differentiable
]

_references: dict[str, Reference] = {}


@pytest.mark.parametrize(("case", "rival", "part"), RUNS)
def test_speed(case: Case, rival: str, part: str, benchmark: Any) -> None:
    benchmark.group = f"{case.name} {part}: n={case.n}, dimensions ({case.p}, {case.q})"
    work = checked(case, rival)
    if part == "backward":
        assert work.graph is not None
        assert work.backward is not None
        call = Prepared(work.graph, work.backward)
        benchmark.pedantic(call.run, setup=lambda: ((call.setup(),), {}), rounds=20)
        return
    benchmark(work.forward if part == "forward" else work.both)


def checked(case: Case, rival: str) -> Work:
    """A rival whose result is right; without the library it is skipped, with the reason."""
    x, y = samples(case.n, case.p, case.q, dtype=case.dtype)
    if case.name not in _references:
        _references[case.name] = reference(x, y)
    try:
        work = RIVALS[rival].make(x, y)
        check(RIVALS[rival], work, x, y, _references[case.name])
    except ImportError as reason:
        pytest.skip(str(reason))
    return work
