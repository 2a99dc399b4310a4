"""The evaluation of methods with a class code and a content code: LORD, its variants and rivals."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.errors import DataError, UserError
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.code_probes import (
    code_probes,
    content_posterior,
    draw_samples,
    regressions,
)
from dcorr_models.evaluation.common import start
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.metrics.content_transfer import content_transfer_on
from dcorr_models.metrics.perceptual_distance import (
    ImageDistance,
    PerceptualDistance,
    image_distance,
)
from dcorr_models.metrics.posterior_collapse import posterior_collapse
from dcorr_models.metrics.probes import dcor_with_floor
from dcorr_models.metrics.transfer_triples import triples_by_content, triples_by_targets
from dcorr_models.pictures import is_point

__all__ = ["evaluate_class_content"]


def evaluate_class_content(
    method: Method, splits: Splits, protocol: ClassContentProtocol, *, seed: int
) -> dict[str, Any]:
    """Everything but the seconds; see `evaluate`."""
    assert isinstance(method, ClassContent), "class vectors come with a class and a content code"
    if len(torch.unique(splits.train.labels)) < 2:
        raise UserError("the train split has fewer than two classes: nothing to measure")
    # what is missing of it is found before the measuring
    distance = _distance(method, splits.test, protocol)
    result, codes, _ = start("class_content", method, splits)
    result["transfer"] = _transfer(method, splits.test, distance, protocol, seed=seed)
    samples = draw_samples(method, splits, protocol, seed=seed)
    result["probes"] = code_probes(samples, protocol, seed=seed)
    result["regression"] = regressions(samples, protocol)
    result["leakage"] = _dependence(codes, protocol, seed=seed)
    posterior = content_posterior(method, splits.test)
    if posterior is not None:
        result["collapse"] = posterior_collapse(*posterior, tolerance=protocol.collapse_tolerance)
    return result


def _distance(
    method: ClassContent, test: LabelledImages, protocol: ClassContentProtocol
) -> ImageDistance:
    """What compares images, on the method's device; points by their coordinates, if not told."""
    untold = protocol.distance == ClassContentProtocol().distance
    distance = image_distance(
        "l1" if untold and is_point(test.images.shape) else protocol.distance,
        weights=protocol.weights,
        value_range=test.value_range,
    )
    if isinstance(distance, PerceptualDistance):
        distance.to(next(method.parameters()).device)
    return distance


def _transfer(
    method: ClassContent,
    test: LabelledImages,
    distance: ImageDistance,
    protocol: ClassContentProtocol,
    *,
    seed: int,
) -> dict[str, Any]:
    """The true image is known by its content, or else by the nearest targets, such as landmarks."""
    by_content = test.content is not None or test.targets is None
    find = triples_by_content if by_content else triples_by_targets
    try:
        triples = find(test, pairs=protocol.pairs, seed=seed, name="the test split")
    except DataError as error:
        return {"skipped": {"transfer": str(error)}}
    measured = content_transfer_on(
        test, triples, partial(editing.transfer, method), distance, seed=seed
    )
    return {**measured, "matched_by": "content" if by_content else "targets"}


def _dependence(codes: Codes, protocol: ClassContentProtocol, *, seed: int) -> dict[str, Any]:
    """The distance correlation of the class codes and the content codes of test images."""
    label, residual = (code[: protocol.dcor_images] for code in codes)
    found, floor = dcor_with_floor(label, residual, seed)
    return {"dcor": found, "dcor_shuffled": floor, "dcor_samples": len(label)}
