"""What all distance statistics share: their arguments, and their formulas on pair moments."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dcorr import _checks, _projections
from dcorr._collectives import agree, all_rows, check_enough_together
from dcorr._process_group import Group, Team, check_group
from dcorr.pairwise import TABLE, PairMoments, pair_moments, reference
from dcorr.pairwise.sample import wide

METRICS = ("euclidean", "precomputed")

# Every method: the backends, and projections on random lines, which estimate the statistics.
METHODS = ("auto", *TABLE, "sliced")

# Random directions where the number is not given.
PROJECTIONS = 64

# What runs on every process, whatever is installed there, and draws no random numbers.
GROUP_METHODS = ("auto", "dense", "tiled", "univariate")

# A difference of statistics under this many roundings of its terms is noise, and taken for 0.
NOISE = 64.0


@dataclass(frozen=True)
class Settings:
    """The options of a distance statistic, checked."""

    unbiased: bool = False
    exponent: float = 1.0
    metric: str = "euclidean"
    method: str = "auto"
    check_finite: bool = False
    group: Group = None
    num_projections: int | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        _checks.check_flag("unbiased", self.unbiased)
        _checks.check_flag("check_finite", self.check_finite)
        _checks.check_number("exponent", self.exponent, low=0.0, high=2.0, open_low=True)
        _checks.check_choice("metric", self.metric, METRICS)
        check_method(self.method)
        if self.metric == "precomputed" and self.exponent != 1.0:
            raise ValueError(
                "exponent must be 1 with metric='precomputed' (raise the distances to the power "
                f"yourself), got {self.exponent}"
            )
        if self.metric == "precomputed" and self.method not in ("auto", "dense"):
            raise ValueError(
                "method must be 'auto' or 'dense' with metric='precomputed', "
                f"which is n by n already, got {self.method!r}"
            )
        self._check_projections()
        check_group(self.group)
        if self.group is not None and self.metric == "precomputed":
            raise ValueError(
                "group must be None with metric='precomputed': a process's own distances leave out "
                "those to the samples of the others"
            )
        if self.group is not None and self.method not in GROUP_METHODS:
            listed = ", ".join(repr(method) for method in GROUP_METHODS)
            raise ValueError(
                f"method must be one of {listed} with a group: the others may not run, or not "
                f"alike, on every process, got {self.method!r}"
            )

    def _check_projections(self) -> None:
        _checks.check_generator(self.generator)
        if self.method == "sliced":
            if self.num_projections is not None:
                _checks.check_integer("num_projections", self.num_projections, low=1)
            if self.exponent != 1.0:
                raise ValueError(f"exponent must be 1 with method='sliced', got {self.exponent}")
            return
        for name in ("num_projections", "generator"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name} must be None with method={self.method!r}: "
                    "only method='sliced' draws random directions"
                )


@dataclass(frozen=True)
class Samples:
    """Samples with equal batch dimensions, ready to compute with."""

    tensors: dict[str, Tensor]
    weights: Tensor | None
    settings: Settings
    n: int
    result_dtype: torch.dtype
    team: Team | None = None

    def moments(self, first: str, second: str | None = None, *, variances: bool) -> PairMoments:
        """Return the pair moments of two samples, or of one with itself.

        Sliced, they are estimates of the statistics themselves already.
        """
        x, y = self.tensors[first], None if second is None else self.tensors[second]
        if self.settings.method == "sliced":
            return _projections.moments(
                x, y, self.weights, self.projections, self.of_lines, self._of_one, variances
            )
        if self.settings.metric == "precomputed":
            a, w = x.to(wide(x)), None if self.weights is None else self.weights.to(wide(x))
            return PairMoments(
                *reference.moments_of_distances(a, a if y is None else y.to(a.dtype), w)
            )
        return pair_moments(
            x,
            y,
            exponent=float(self.settings.exponent),
            weights=self.weights,
            method=self.settings.method,
            variances=variances,
            team=self.team,
            row_gradients=self.settings.unbiased,  # of the formulas, this one alone has row means
        )

    @property
    def projections(self) -> _projections.Draw:
        """How many random directions to draw, and from what."""
        return _projections.Draw(
            self.settings.num_projections or PROJECTIONS, self.settings.generator
        )

    def covariance(self, moments: PairMoments) -> Tensor:
        """Return dCov²."""
        return moments.ab if self.settings.method == "sliced" else self.of_lines(moments)

    def of_lines(self, moments: PairMoments) -> Tensor:
        """Return dCov² of samples or of their projections."""
        if self.settings.unbiased:
            return unbiased(moments.ab, moments.a_rows, moments.b_rows, self.n)
        # Given matrices need not be Euclidean distances, and then it may really be negative.
        return moments.ab

    def variances(self, moments: PairMoments) -> tuple[Tensor, Tensor]:
        """Return dVar² of both samples, exactly 0 where it is 0 but for rounding."""
        aa, bb, a, b = moments.aa, moments.bb, moments.a_rows, moments.b_rows
        assert aa is not None
        assert bb is not None
        if not self.settings.unbiased or self.settings.method == "sliced":
            return aa, bb
        # All points but one alike: the unbiased variance vanishes, though the points do differ.
        # Many pairs are summed, so what rounding leaves of it is below one rounding of the biased.
        noise = max(self.epsilon, NOISE * torch.finfo(aa.dtype).eps)
        own = (unbiased(aa, a, a, self.n), aa), (unbiased(bb, b, b, self.n), bb)
        first, second = (torch.where(u <= noise * v, 0.0, u) for u, v in own)
        return first, second

    def _of_one(self, moments: PairMoments) -> Tensor:
        """Return dCov² of two projections of one sample, exactly 0 where it is 0 but for rounding.

        It is a difference of terms that are at least as large as the mean product of row means.
        """
        value, terms = self.of_lines(moments), (moments.a_rows * moments.b_rows).mean(-1)
        noise = NOISE * torch.finfo(value.dtype).eps
        return torch.where(value.abs() <= noise * terms, 0.0, value)

    def correlation(self, moments: PairMoments) -> Tensor:
        """Return R²."""
        aa, bb = self.variances(moments)
        return ratio(self.covariance(moments), aa, bb)

    def result(self, value: Tensor) -> Tensor:
        """Return a value in the dtype in which the caller expects it."""
        return value.to(self.result_dtype)

    @property
    def epsilon(self) -> float:
        """The rounding of the distances."""
        (first, *_) = self.tensors.values()
        return torch.finfo(first.dtype).eps


def check_method(method: object) -> None:
    """Refuse a method that does not exist; whether it can run is known with the samples."""
    _checks.check_choice("method", method, METHODS)


def check_partial_method(method: object) -> None:
    """Refuse projections where a statistic is a ratio of products of estimates."""
    check_method(method)
    if method == "sliced":
        raise ValueError(
            "method must not be 'sliced' for partial statistics: estimates of the three "
            "covariances make no estimate of the partial one"
        )


def prepare(
    tensors: dict[str, Tensor],
    weights: Tensor | None,
    settings: Settings,
    team: Team | None = None,
) -> Samples:
    """Check samples and weights against each other, and bring them to one shape and dtype.

    With a team, also against those of the other processes, whose samples then stand beside them.
    """
    least = 4 if settings.unbiased else 2
    read = _as_distances if settings.metric == "precomputed" else _as_samples
    own = least if team is None else 0  # too few of one process may be enough together
    tensors = {name: read(name, t, own) for name, t in tensors.items()}
    _checks.check_same_samples(**tensors)
    n = next(iter(tensors.values())).shape[-2]
    shapes = {name: t.shape[:-2] for name, t in tensors.items()}
    if weights is not None:
        if settings.unbiased:
            raise ValueError("weights must be None with unbiased=True: no unbiased form is known")
        _checks.check_weights(weights, _checks.broadcast_batch(**shapes), n)
        shapes["weights"] = weights.shape[:-1]
    batch = _checks.broadcast_batch(**shapes)
    _checks.check_same_kind(**tensors, weights=weights)
    if settings.check_finite:
        _checks.check_finite_values(**tensors, weights=weights)
    given = [*tensors.values(), *([] if weights is None else [weights])]
    work = torch.float32
    for t in given:
        work = torch.promote_types(work, _checks.compute_dtype(t))
    first = given[0]
    result_dtype = work if _checks.autocasts(first) else first.dtype
    tensors = {name: _expanded(t.to(work), batch) for name, t in tensors.items()}
    if weights is not None:
        weights = weights.to(work).expand(*batch, n)
    if team is not None:
        tensors, weights, n = _gathered(tensors, weights, settings, given, team)
    if weights is not None:
        weights = weights / weights.sum(-1, keepdim=True)
    return Samples(tensors, weights, settings, n, result_dtype, team)


def _expanded(t: Tensor, batch: torch.Size) -> Tensor:
    # The usual case is spared a node of the graph.
    return t if t.shape[:-2] == batch else t.expand(*batch, *t.shape[-2:])


def _gathered(
    tensors: dict[str, Tensor],
    weights: Tensor | None,
    settings: Settings,
    given: list[Tensor],
    team: Team,
) -> tuple[dict[str, Tensor], Tensor | None, int]:
    """Return the samples and weights of all processes, once they agree, and their number."""
    rows = dict(tensors) if weights is None else {**tensors, "weights": weights.unsqueeze(-1)}
    facts = {
        "unbiased": settings.unbiased,
        "exponent": float(settings.exponent),
        "method": settings.method,
    }
    counts = agree(team, rows, given, facts)
    check_enough_together(next(iter(tensors)), counts, 4 if settings.unbiased else 2)
    gathered = all_rows(list(rows.values()), team, counts)
    if weights is not None:
        weights = gathered[-1].squeeze(-1)
    return dict(zip(tensors, gathered, strict=False)), weights, sum(counts)


def unbiased(ab: Tensor, a_rows: Tensor, b_rows: Tensor, n: int) -> Tensor:
    r"""Return the U-statistic of a V-statistic ``ab`` and the row means of the distances.

    The sums of Székely and Rizzo 2014, Proposition 1, in terms of what does not cancel: with the
    means ``r``, ``m`` of rows and of all,
    :math:`\frac{n}{n-3} (V - \frac{4}{n-2} \mathrm{cov}(r^a, r^b) - \frac{1}{n-1} m^a m^b)`.
    """
    a_mean, b_mean = a_rows.mean(-1), b_rows.mean(-1)
    rows = ((a_rows - a_mean.unsqueeze(-1)) * (b_rows - b_mean.unsqueeze(-1))).mean(-1)
    return n / (n - 3) * (ab - 4 / (n - 2) * rows - a_mean * b_mean / (n - 1))


def ratio(ab: Tensor, aa: Tensor, bb: Tensor) -> Tensor:
    """Return ``ab / sqrt(aa bb)`` in [-1, 1]; 0, with a zero gradient, where a variance is 0."""
    constant = (aa <= 0) | (bb <= 0)  # False for NaN, which must stay NaN
    scale = torch.where(constant, 1.0, aa).sqrt() * torch.where(constant, 1.0, bb).sqrt()
    return torch.where(constant, 0.0, ab / scale).clamp(-1.0, 1.0)


def root(squared: Tensor) -> Tensor:
    """Return the square root; 0, with a zero gradient, where the square is 0 (or rounded below)."""
    zero = squared <= 0
    return torch.where(zero, 0.0, torch.where(zero, 1.0, squared).sqrt())


def _as_samples(name: str, value: Tensor, least: int) -> Tensor:
    return _checks.as_samples(name, value, min_samples=least)


def _as_distances(name: str, value: Tensor, least: int) -> Tensor:
    _checks.check_tensor(name, value)
    if value.ndim < 2 or value.shape[-1] != value.shape[-2]:
        raise ValueError(
            f"{name} must hold distances, shape (*batch, n, n), with metric='precomputed', "
            f"got shape {tuple(value.shape)}"
        )
    _checks.check_enough_samples(name, value.shape[-1], least)
    return value
