"""How samples are computed with: the dtype, and the form in which their distances are cheapest."""

from __future__ import annotations

import torch
from torch import Tensor

from dcorr.pairwise.sample import FEW_FEATURES, Sample, SampleByDifferences, wide
from dcorr.pairwise.sample_by_product import SampleByProduct

# Up to so many samples, or so many if they have few features, all is computed in float64, whatever
# came. There are too few pairs for roundings to average out, and it costs next to nothing.
FEW_SAMPLES = 64
SOME_SAMPLES, SOME_FEATURES = 256, 128


def work_dtype(points: list[Tensor]) -> torch.dtype:
    """Return the dtype to compute the distances of samples ``(B, N, P)`` in."""
    x = points[0]
    n, features = x.shape[-2], sum(t.shape[-1] for t in points)
    few = n <= FEW_SAMPLES or (n <= SOME_SAMPLES and features <= SOME_FEATURES)
    return wide(x) if few else x.dtype


def prepare(points: list[Tensor], weights: Tensor | None) -> tuple[list[Sample], Tensor | None]:
    """Return samples and weights in the dtype to compute in."""
    dtype = work_dtype(points)
    samples = [form_of(x)(x, dtype, name) for x, name in zip(points, "xy", strict=False)]
    return samples, None if weights is None else normalised(weights).to(dtype)


def normalised(weights: Tensor) -> Tensor:
    """Return weights ``(B, N)`` in a wide dtype, of sum 1 there too.

    Where one weight is nearly all of it, what narrow weights lack of 1 is not small beside the
    others.
    """
    weights = weights.to(wide(weights))
    return weights / weights.sum(-1, keepdim=True)


def form_of(x: Tensor) -> type[Sample]:
    """Return the form of a sample ``(B, N, P)`` whose distances are cheapest on its device."""
    # The near pairs of a product are a list of unknown length, and to ask another device for its
    # length stops the pipeline: only the CPU may look.
    by_product = x.device.type == "cpu" and x.shape[-1] > FEW_FEATURES
    return SampleByProduct if by_product else SampleByDifferences
