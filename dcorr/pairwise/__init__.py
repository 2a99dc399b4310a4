"""Sums over all pairs of samples: one differentiable operator, several backends.

Every statistic of the distance covariance family is a small formula on :class:`PairMoments`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from torch import Tensor

from dcorr import _checks
from dcorr._process_group import Team
from dcorr.pairwise import fused, operator, shared

# Up to this many samples the n by n matrices are kept; above, blocks are computed twice instead. In
# a loop that does nothing else, keeping them pays up to two or three times as many; among other
# work, the system hands fresh pages out for them at every call, and it does not.
DENSE_SAMPLES = 256

# Above so many samples ordering them is the quickest in one dimension (in a batch of eight from 128
# on, alone from about 400). It takes some two hundred operations, so a device to which each is sent
# on its own needs more samples to be busy; how many more has not been measured.
ORDERED_SAMPLES = {"cpu": 256}
ORDERED_SAMPLES_ELSEWHERE = 8192


class Problem(NamedTuple):
    """What the choice of a backend may look at: shapes and settings, never values."""

    n: int
    p: int
    q: int
    exponent: float
    weighted: bool
    device: str


def _one_dimensional(problem: Problem) -> str:
    if problem.p != 1 or problem.q != 1:
        return f"it takes samples of one feature, and they have {problem.p} and {problem.q}"
    return "" if problem.exponent == 1.0 else f"it takes exponent 1, got {problem.exponent:g}"


def _worth_ordering(problem: Problem) -> bool:
    return problem.n > ORDERED_SAMPLES.get(problem.device, ORDERED_SAMPLES_ELSEWHERE)


def _worth_fusing(problem: Problem) -> bool:
    # Few samples take as long as the launches of their kernels, and `dense` compiles none.
    return problem.device == "cuda" and problem.n > DENSE_SAMPLES


# One line a backend, in the order in which `auto` tries them: its name, when it can run (an empty
# string, or the reason why not), and when `auto` takes it.
TABLE: dict[str, tuple[Callable[[Problem], str], Callable[[Problem], bool]]] = {
    "univariate": (_one_dimensional, _worth_ordering),
    "fused": (lambda problem: fused.missing(problem.device), _worth_fusing),
    "dense": (lambda problem: "", lambda problem: problem.n <= DENSE_SAMPLES),
    "tiled": (lambda problem: "", lambda problem: True),
}


class PairMoments(NamedTuple):
    r"""Means over all pairs of two samples' distances, doubly centred: ``A`` and ``B``.

    With weights :math:`w` of sum 1, or :math:`1/n`. What was not asked for is ``None``.
    """

    ab: Tensor
    r""":math:`w^T (A \circ B) w`, shape ``batch``."""
    aa: Tensor | None
    r""":math:`w^T (A \circ A) w`."""
    bb: Tensor | None
    r""":math:`w^T (B \circ B) w`."""
    a_rows: Tensor
    """Row means of the first sample's distances, not centred, ``(*batch, n)``."""
    b_rows: Tensor
    """Row means of the second sample's distances."""


def pair_moments(
    x: Tensor,
    y: Tensor | None = None,
    *,
    exponent: float = 1.0,
    weights: Tensor | None = None,
    method: str = "auto",
    variances: bool = True,
    team: Team | None = None,
    row_gradients: bool = True,
) -> PairMoments:
    r"""Return the pair moments of two samples, or of one with itself.

    With :math:`a_{ij} = |x_i - x_j|^\alpha`, :math:`r = a w` and
    :math:`A_{ij} = a_{ij} - r_i - r_j + w \cdot r` (and ``B`` likewise from ``y``), the moments are
    :math:`w^T (A \circ B) w`, :math:`w^T (A \circ A) w`, :math:`w^T (B \circ B) w` and the row
    means ``r``.

    Args:
        x: ``(*batch, n, p)``, float32 or float64.
        y: ``(*batch, n, q)``, same dtype and batch; ``None`` stands for ``x``.
        exponent: of the distances, in (0, 2].
        weights: ``(*batch, n)``, non-negative with sum 1; ``None`` stands for ``1/n``.
        method: a backend by name, or ``"auto"``.
        variances: whether ``aa`` and ``bb`` are wanted.
        team: the processes that hold these samples, all of them whole. Where blocks of pairs are
            summed, they are dealt out to them; all else each process computes for itself.
        row_gradients: whether gradients may come in for the row means; ``False`` spares a team
            to send them.

    Returns:
        The moments in float64 (float32 where the device has none), so that formulas on them may
        subtract.

    Raises:
        ValueError: for a method that does not exist or cannot run this problem.

    Gradient:
        In closed form, with respect to samples and weights, any number of times. Pairs of
        coincident points contribute 0.

    Reference:
        Székely, Rizzo and Bakirov 2007, "Measuring and testing dependence by correlation of
        distances", Eqs. (2.8) and (2.9).

    Example:
        >>> import torch
        >>> moments = pair_moments(torch.tensor([[1.0], [2.0], [4.0]]))
        >>> [round(v, 4) for v in moments.a_rows.tolist()]  # mean distances from 1, from 2, from 4
        [1.3333, 1.0, 1.6667]
    """
    problem = Problem(
        n=x.shape[-2],
        p=x.shape[-1],
        q=x.shape[-1] if y is None else y.shape[-1],
        exponent=exponent,
        weighted=weights is not None,
        device=x.device.type,
    )
    variances = variances or y is None
    # All processes have to choose alike, and one of them may lack the kernels.
    name = choose(problem, method, but=() if team is None else ("fused",))
    if team is None or name != "tiled":
        outputs = operator.pair_moments(x, y, weights, exponent, name, variances)
    else:
        asked = shared.Asked(exponent, variances, row_gradients)
        outputs = shared.pair_moments(x, y, weights, asked, team)
    ab, aa, bb, a_rows, b_rows = outputs
    if y is None:
        return PairMoments(aa, aa, aa, a_rows, a_rows)
    return PairMoments(ab, aa if variances else None, bb if variances else None, a_rows, b_rows)


def choose(problem: Problem, method: str, *, but: Collection[str] = ()) -> str:
    """Return the backend for a problem; a named one runs it or says why it cannot.

    Those in ``but`` are none that ``auto`` chooses.
    """
    _checks.check_choice("method", method, ("auto", *TABLE))
    if method == "auto":
        return next(
            name
            for name, (why, take) in TABLE.items()
            if name not in but and not why(problem) and take(problem)
        )
    reason = TABLE[method][0](problem)
    if reason:
        raise ValueError(f"method {method!r} cannot run this problem: {reason}")
    return method
