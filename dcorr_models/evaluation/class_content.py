"""The evaluation of methods with a class code and a content code: LORD, its variants and rivals."""

from __future__ import annotations

from typing import Any

import torch

from dcorr_models.data.base import Splits
from dcorr_models.errors import UserError
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
from dcorr_models.metrics.posterior_collapse import posterior_collapse
from dcorr_models.metrics.probes import dcor_with_floor

__all__ = ["evaluate_class_content"]


def evaluate_class_content(
    method: Method, splits: Splits, protocol: ClassContentProtocol, *, seed: int
) -> dict[str, Any]:
    """Everything but the seconds; see `evaluate`."""
    assert isinstance(method, ClassContent), "class vectors come with a class and a content code"
    if len(torch.unique(splits.train.labels)) < 2:
        raise UserError("the train split has fewer than two classes: nothing to measure")
    result, codes, _ = start("class_content", method, splits)
    samples = draw_samples(method, splits, protocol, seed=seed)
    result["probes"] = code_probes(samples, protocol, seed=seed)
    result["regression"] = regressions(samples, protocol)
    result["leakage"] = _dependence(codes, protocol, seed=seed)
    posterior = content_posterior(method, splits.test)
    if posterior is not None:
        result["collapse"] = posterior_collapse(*posterior, tolerance=protocol.collapse_tolerance)
    return result


def _dependence(codes: Codes, protocol: ClassContentProtocol, *, seed: int) -> dict[str, Any]:
    """The distance correlation of the class codes and the content codes of test images."""
    label, residual = (code[: protocol.dcor_images] for code in codes)
    found, floor = dcor_with_floor(label, residual, seed)
    return {"dcor": found, "dcor_shuffled": floor, "dcor_samples": len(label)}
