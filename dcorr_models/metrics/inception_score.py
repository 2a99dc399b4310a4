"""The Inception score: samples that a classifier is sure of, and of all classes evenly."""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor

from dcorr_models.metrics.probes import check_codes

__all__ = ["InceptionScore", "inception_score"]


class InceptionScore(TypedDict):
    """What `inception_score` returns."""

    score: float
    std: float | None
    splits: int
    samples: int
    classes: int


def inception_score(scores: Tensor, *, splits: int = 1, seed: int = 0) -> InceptionScore:
    r"""How sure a classifier is of each sample, and how evenly its answers spread over the classes.

    $\mathrm{IS} = \exp\bigl(\frac{1}{N} \sum_n \mathrm{KL}(p(y \mid x_n) \,\|\, p(y))\bigr)$ with
    $p(y) = \frac{1}{N} \sum_n p(y \mid x_n)$, in float64. With several splits the samples are
    shuffled and cut into as many parts, each with a p(y) of its own; the score is the mean over the
    parts. A part with few samples has a score that is too low, the lower the fewer: scores of
    different numbers of samples or splits do not compare, nor do those of different classifiers.
    The published scores are of an Inception network; ours is of whichever gave the scores.

    Args:
        scores: Float (N, K), what the classifier gives before the softmax.
        splits: Parts, from 1 to N. Lr-LiVAE names none, and averages p(y) over all samples: 1.
        seed: Seed of the shuffle, where there are several parts.

    Returns:
        A dict of the `score`, from 1 (all answers alike) to K (every answer certain, all classes
        equally often), its `std` over the parts (divided by their number; None for one part), and
        the sizes. The same samples in another order have another score where `splits` is above 1.

    Raises:
        ValueError: If `scores` is not (N, K) or holds NaN or infinity, or there are no `splits` or
            more than samples.
        TypeError: If `scores` is not floating point.

    Reference:
        Salimans et al., Improved techniques for training GANs, 2016, section 4; Zheng and Sun
        (Lr-LiVAE), 2019, section 4.2.

    Example:
        >>> sure = 100.0 * torch.eye(4).repeat(5, 1)
        >>> round(inception_score(sure)["score"], 4)
        4.0
        >>> round(inception_score(sure[:1].repeat(20, 1))["score"], 4)
        1.0
    """
    check_codes("scores", scores)
    if not 1 <= splits <= len(scores):
        raise ValueError(f"splits must lie between 1 and the {len(scores)} samples, got {splits}")
    answers = scores.detach().cpu().double().log_softmax(dim=1)
    if splits > 1:
        answers = answers[torch.randperm(len(answers), generator=_generator(seed))]
    found = torch.stack([_one_part(part) for part in torch.tensor_split(answers, splits)])
    return {
        "score": found.mean().item(),
        "std": found.std(correction=0).item() if splits > 1 else None,
        "splits": splits,
        "samples": len(scores),
        "classes": scores.shape[1],
    }


def _one_part(answers: Tensor) -> Tensor:
    """The score of log probabilities (N, K)."""
    # In logarithms: a class that no answer gives any probability would be 0 · log 0.
    mean = answers.logsumexp(dim=0) - math.log(len(answers))
    return (answers.exp() * (answers - mean)).sum(dim=1).mean().exp()


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
