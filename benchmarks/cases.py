"""What is measured: sizes and rivals, and the ratios that must be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Case(NamedTuple):
    """One pair of samples and those who meet on it."""

    section: str
    name: str
    n: int
    p: int
    q: int
    rivals: tuple[str, ...]
    dtype: str = "float32"
    parts: tuple[str, ...] = ("forward", "backward", "both")
    memory: bool = True
    least_rounds: int = 5


class Target(NamedTuple):
    """A number that a case must reach."""

    case: str
    claim: str
    number: float
    unit: str
    measure: Callable[[Mapping[str, Row]], float | None]  # of the case's rows by rival
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether a measured value reaches the number."""
        return value >= self.number if self.at_least else value <= self.number


# -- cases ----------------------------------------------------------------------------------------

TRAINING = ("dcorr", "cdist", "broadcast")
MATRICES = ("dcorr", "dcorr tiled", "cdist")
ONE_DIMENSIONAL = ("dcorr", "dcor mergesort", "dcor AVL", "hyppo fast")

CPU_TARGETS = [
    Case("targets", "training", 100, 10, 10, TRAINING),
    Case("targets", "wide", 128, 40, 1000, TRAINING),
    Case("targets", "n512", 512, 10, 128, MATRICES),
    Case("targets", "n2048", 2048, 10, 64, MATRICES),
    Case("targets", "n4096", 4096, 10, 64, MATRICES),
    Case("targets", "n8192", 8192, 10, 64, MATRICES),
    Case("targets", "univariate_1e5", 100_000, 1, 1, ONE_DIMENSIONAL, "float64"),
    Case("targets", "univariate_1e6", 1_000_000, 1, 1, ONE_DIMENSIONAL[:3], "float64"),
]

CUDA_TARGETS = [
    *(
        Case(
            "targets", f"training_{n}", n, 40, 1000,
            ("dcorr fused", "fused, CUDA graph", "dense, CUDA graph", "cdist"), least_rounds=50,
        )
        for n in (128, 256, 512, 1024)
    ),
    Case("targets", "fused_65536", 65_536, 64, 64, ("dcorr fused", "dcorr tiled")),
    Case("targets", "fused_1e6", 1_000_000, 16, 16, ("dcorr fused",), parts=("both",),
         least_rounds=3),
    Case("targets", "univariate_1e7", 10_000_000, 1, 1, ("dcorr",)),
]  # fmt: skip

# The same statistic by those without a gradient, and reductions over as many pairs.
OTHERS = [
    Case(
        "others", "statistics", 1024, 10, 64,
        ("dcorr", "dcorr dcor2", "dcor naive", "hyppo", "statsmodels", "pykeops"), "float64",
    ),
    Case(
        "others", "reductions", 4096, 16, 16, ("dcorr", "cdist", "pykeops", "geomloss energy"),
    ),
    Case("others", "sliced", 16_384, 10, 64, ("dcorr", "dcorr sliced"), "float64"),
]  # fmt: skip

CROSSOVER_SAMPLES = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)
CROSSOVER_DIMENSIONS = ((10, 10), (10, 128), (40, 1000))

# Every fourth power of two, up to a million (ten on CUDA for one dimension).
GROWTH_SAMPLES = (64, 256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576)
GROWTH_CUDA_SAMPLES = (*GROWTH_SAMPLES, 4_194_304, 10_000_000)


def crossover(samples: tuple[int, ...] = CROSSOVER_SAMPLES) -> list[Case]:
    return [
        Case(
            "crossover", f"crossover_{p}_{q}", n, p, q, ("dcorr dense", "dcorr tiled"),
            parts=("both",), memory=False, least_rounds=15,
        )
        for p, q in CROSSOVER_DIMENSIONS for n in samples
    ]  # fmt: skip


def growth(device: str, samples: tuple[int, ...] | None = None) -> list[Case]:
    """Two curves: many dimensions, and one."""
    many = ["dcorr", "dcorr sliced", "cdist", "broadcast", "dcor naive", "statsmodels"]
    one = ["dcorr", "dcor mergesort", "dcor AVL", "hyppo fast", "cdist"]
    if device == "cuda":
        many.insert(1, "dcorr tiled")
    chosen = samples or (GROWTH_CUDA_SAMPLES if device == "cuda" else GROWTH_SAMPLES)
    return [
        Case(
            "growth", name, n, p, q, tuple(rivals), dtype,
            parts=("forward", "both"), least_rounds=3,
        )
        for name, p, q, rivals, dtype in (
            ("many dimensions", 10, 64, many, "float32"),
            ("one dimension", 1, 1, one, "float64"),
        )
        for n in chosen
    ]  # fmt: skip


def all_cases(device: str) -> list[Case]:
    targets = CUDA_TARGETS if device == "cuda" else CPU_TARGETS
    return [*targets, *OTHERS, *crossover(), *growth(device)]


def quick_cases(device: str) -> list[Case]:
    """Every section and rival once, with few samples: to see that the machinery runs."""
    targets = [case._replace(n=min(case.n, 40)) for case in all_cases(device)[: len(CPU_TARGETS)]]
    reduced = [case._replace(n=40) for case in OTHERS]
    small = [*targets, *reduced, *crossover((16,)), *growth(device, (16, 40))]
    # Each measurement of memory starts a process: the first two rivals' are enough.
    weighed = "crossover_10_10"
    return [case._replace(memory=case.name == weighed, least_rounds=2) for case in small]


# -- targets --------------------------------------------------------------------------------------


def milliseconds(rival: str, part: str = "both") -> Callable[[Mapping[str, Row]], float | None]:
    return lambda rows: number(rows, rival, f"{part}_ms")


def peak_mb(rival: str) -> Callable[[Mapping[str, Row]], float | None]:
    return lambda rows: number(rows, rival, "peak_mb")


def speedup(
    over: str, part: str = "both", *, of: str = "dcorr"
) -> Callable[[Mapping[str, Row]], float | None]:
    """How many times longer the other takes."""

    def measure(rows: Mapping[str, Row]) -> float | None:
        theirs, ours = (number(rows, rival, f"{part}_ms") for rival in (over, of))
        return theirs / ours if theirs and ours else None

    return measure


def with_gradient(rows: Mapping[str, Row]) -> float | None:
    """Value and gradient together, in times of the value alone."""
    both, forward = (number(rows, "dcorr", f"{part}_ms") for part in ("both", "forward"))
    return both / forward if both and forward else None


def share_of_pairs(rival: str) -> Callable[[Mapping[str, Row]], float | None]:
    """Pairs that one process computes, of all n² that the definition sums over."""

    def measure(rows: Mapping[str, Row]) -> float | None:
        pairs, n = (number(rows, rival, column) for column in ("pairs", "n"))
        return pairs / n**2 if pairs and n else None

    return measure


def number(rows: Mapping[str, Row], rival: str, column: str) -> float | None:
    """A number of a row; None where it was not measured."""
    text = rows.get(rival, {}).get(column)
    return float(text) if text not in (None, "") else None


AGAINST_CDIST = "value and gradient, against `torch.cdist` with autograd"
AGAINST_MERGESORT = "value, against dcor's mergesort"
WITH_GRADIENT = "value and gradient, in times of the value alone"
AGAINST_GRAPH = "value and gradient, against a CUDA graph of the dense form"

TARGETS = {
    "cpu": [
        Target("training", AGAINST_CDIST, 1.6, "×", speedup("cdist")),
        Target("wide", AGAINST_CDIST, 1.7, "×", speedup("cdist")),
        Target(
            "wide", "value and gradient, against the broadcast formulation of CDNet", 150, "×",
            speedup("broadcast"),
        ),
        Target("n512", AGAINST_CDIST, 2.5, "×", speedup("cdist")),
        Target("n2048", AGAINST_CDIST, 5, "×", speedup("cdist")),
        Target("n4096", AGAINST_CDIST, 12, "×", speedup("cdist")),
        Target("n8192", AGAINST_CDIST, 15, "×", speedup("cdist")),
        Target("n8192", "peak extra memory", 64, "MB", peak_mb("dcorr"), at_least=False),
        Target("univariate_1e5", AGAINST_MERGESORT, 2, "×", speedup("dcor mergesort", "forward")),
        Target("univariate_1e6", AGAINST_MERGESORT, 4, "×", speedup("dcor mergesort", "forward")),
        Target("univariate_1e5", WITH_GRADIENT, 2, "×", with_gradient, at_least=False),
        Target("univariate_1e6", WITH_GRADIENT, 2, "×", with_gradient, at_least=False),
        Target("processes", "pairs for each of 2 processes, of all n²", 0.5, "n²",
               share_of_pairs("2 processes"), at_least=False),
    ],
    "cuda": [
        *(
            Target(
                f"training_{n}", AGAINST_GRAPH, 1, "×",
                speedup("dense, CUDA graph", of="dcorr fused"),
            )
            for n in (128, 256, 512, 1024)
        ),
        Target("fused_65536", "value and gradient", 60, "ms", milliseconds("dcorr fused"),
               at_least=False),
        Target("fused_65536", "peak extra memory", 256, "MB", peak_mb("dcorr fused"),
               at_least=False),
        Target("fused_1e6", "value and gradient", 8000, "ms", milliseconds("dcorr fused"),
               at_least=False),
        Target("fused_1e6", "peak extra memory", 1000, "MB", peak_mb("dcorr fused"),
               at_least=False),
        Target("univariate_1e7", "value and gradient", 100, "ms", milliseconds("dcorr"),
               at_least=False),
    ],
}  # fmt: skip
