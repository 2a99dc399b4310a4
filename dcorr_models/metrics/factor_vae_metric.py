"""The FactorVAE metric: which dimension of a code stands still when one factor does?"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.active_dimensions import (
    Cut,
    check_factors,
    check_varied,
    require_two_active,
)

__all__ = ["FactorVAEMetric", "Form", "factor_vae_metric"]

Form = Literal["paper", "disentanglement_lib"]
_SHUFFLES = 3


class FactorVAEMetric(TypedDict):
    """What `factor_vae_metric` returns."""

    score: float
    score_shuffled: float
    form: str
    votes: int
    held_out_votes: int
    batch: int
    cut: float
    cut_of: str
    active: int
    dimensions: int
    factors: int
    samples: int
    seed: int


class _Rules(NamedTuple):
    """What the two published forms do differently."""

    votes: int
    held_out: int  # 0: the votes that the classifier learns from are scored
    batch: int
    of: Cut


_FORMS = {
    "paper": _Rules(800, 0, 100, "variance"),
    "disentanglement_lib": _Rules(10_000, 5_000, 64, "std"),
}


class _Values(NamedTuple):
    """One factor's samples, those of a value side by side."""

    order: Tensor  # (N,)
    first: Tensor  # of each value in it
    size: Tensor  # how many samples each value has
    value: Tensor  # (N,), of each sample


def factor_vae_metric(
    codes: Tensor,
    factors: Tensor,
    *,
    form: Form = "paper",
    votes: int | None = None,
    batch: int | None = None,
    cut: float = 0.05,
    seed: int = 0,
) -> FactorVAEMetric:
    r"""Whether each factor has a dimension of the code of its own.

    A vote: a factor $k$ and one of its values are drawn, the value as often as the samples have it;
    then a batch of samples that have this value, with replacement. In the batch the dimension
    $\arg\min_d \operatorname{var}_d / \operatorname{Var}_d$ moves least, where Var is over all
    samples and dimensions that are not in use (`active_dimensions`) are left out. A majority
    classifier takes each dimension for the factor that most of its votes name; `score` is how often
    it is right.

    - `paper`: 800 votes of 100 samples, dimensions with a variance of at least 0.05, and the
      classifier scored on the votes that it learned from.
    - `disentanglement_lib`: 10,000 votes of 64 samples, a standard deviation of at least 0.05, and
      5,000 other votes that are scored (half as many as `votes`, if these are named).

    The two do not compare. Samples are those given: published ones are drawn anew from a whole grid
    of factors, so give all of it, or images drawn from it at random, enough of them that every
    value has several. Chance is not 1 over the factors, since a majority is taken:
    `score_shuffled` is the mean score over three shuffles of the codes among the samples.

    Args:
        codes: Float (N, D), such as posterior means, at least two dimensions in use.
        factors: int64 (N, F), the number of each factor's value, F at least 2, none constant.
        form: Whose protocol.
        votes: In place of its number of votes.
        batch: In place of its samples of a vote, 2 or more.
        cut: Least variance or standard deviation of a dimension in use.
        seed: Of what is drawn.

    Returns:
        A dict of `score` from 0 to 1 (higher is better), `score_shuffled`, and the protocol.

    Raises:
        ValueError: If shapes do not fit, there are fewer than two dimensions in use or two factors,
            a factor is constant, or a number is too small.
        TypeError: If `codes` are not floating point or `factors` not int64.

    Reference:
        Kim and Mnih, Disentangling by factorising, 2018, section 4; Lee et al. (ID-GAN), 2020,
        appendix; Locatello et al., Challenging common assumptions, 2019, for the library.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(5)).repeat(20, 1)
        >>> factor_vae_metric(factors.double(), factors)["score"]
        1.0
    """
    check_factors(codes, factors)
    check_varied(factors)
    if factors.shape[1] < 2:
        raise ValueError("factors need at least two columns, got one: nothing can be told apart")
    if form not in _FORMS:
        raise ValueError(f"form must be one of {', '.join(_FORMS)}, got {form!r}")
    rules = _FORMS[form]
    if votes is not None:
        rules = rules._replace(votes=votes, held_out=votes // 2 if rules.held_out else 0)
    rules = rules._replace(batch=rules.batch if batch is None else batch)
    if rules.votes < 2 or rules.batch < 2:
        raise ValueError(f"votes and batch must be 2 or more, got {rules.votes} and {rules.batch}")
    active = require_two_active(codes, cut=cut, of=rules.of)
    x, known = codes.detach().cpu().double()[:, active], factors.cpu()
    x = x / x.std(dim=0)  # a batch's variance is then the normalised one
    values = [_values(column) for column in known.unbind(1)]
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(x), generator=generator) for _ in range(_SHUFFLES)]
    shuffled = [_score(x[order], values, rules, generator) for order in orders]
    return {
        "score": _score(x, values, rules, generator),
        "score_shuffled": sum(shuffled) / _SHUFFLES,
        "form": form,
        "votes": rules.votes,
        "held_out_votes": rules.held_out,
        "batch": rules.batch,
        "cut": cut,
        "cut_of": rules.of,
        "active": int(active.sum()),
        "dimensions": codes.shape[1],
        "factors": known.shape[1],
        "samples": len(x),
        "seed": seed,
    }


def _score(x: Tensor, values: list[_Values], rules: _Rules, generator: torch.Generator) -> float:
    learned = _votes(x, values, rules.votes, rules.batch, generator)
    majority = learned.argmax(dim=1)
    scored = learned
    if rules.held_out:
        scored = _votes(x, values, rules.held_out, rules.batch, generator)
    right = scored.gather(1, majority[:, None]).sum()
    return int(right) / int(scored.sum())


def _votes(
    x: Tensor, values: list[_Values], count: int, batch: int, generator: torch.Generator
) -> Tensor:
    """(D, F), how many votes name the factor for the dimension."""
    fixed = torch.randint(len(values), (count,), generator=generator)
    result = torch.zeros(x.shape[1], len(values), dtype=torch.int64)
    for k, factor in enumerate(values):
        wanted = int((fixed == k).sum())
        value = factor.value[torch.randint(len(x), (wanted,), generator=generator)]
        # float64: single precision would round some draws up to the number of samples
        share = torch.rand(wanted, batch, generator=generator, dtype=torch.float64)
        place = (share * factor.size[value][:, None]).long()
        rows = factor.order[factor.first[value][:, None] + place]
        moved = [x[part].var(dim=1) for part in torch.split(rows, 1000)]  # a vote a row
        if wanted:
            result[:, k] = torch.bincount(torch.cat(moved).argmin(dim=1), minlength=x.shape[1])
    return result


def _values(column: Tensor) -> _Values:
    _, column = torch.unique(column, return_inverse=True)  # a value may be any number
    size = torch.bincount(column)
    return _Values(column.argsort(stable=True), size.cumsum(0) - size, size, column)
