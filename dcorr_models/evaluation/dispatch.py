"""One entrance to the evaluation of every kind of method."""

from __future__ import annotations

import time
from typing import Any

import torch

from dcorr_models.data.base import Splits
from dcorr_models.errors import UserError
from dcorr_models.evaluation.attributes import evaluate_attributes
from dcorr_models.evaluation.class_content import evaluate_class_content
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.classes import evaluate_classes
from dcorr_models.evaluation.protocol import AttributeProtocol
from dcorr_models.methods.base import Method

__all__ = ["evaluate"]


def evaluate(
    method: Method,
    splits: Splits,
    *,
    seed: int = 0,
    attributes: AttributeProtocol | None = None,
    transfer: ClassContentProtocol | None = None,
) -> dict[str, Any]:
    """Reconstruction, leakage and editing on the test split.

    Args:
        method: a trained method; of classes, of attributes, of class and content codes, or
            without a label code.
        splits: probes, SVMs and classifiers learn on `train`; everything is measured on `test`.
            Its labels decide what kind of measurement it is.
        seed: of whatever is trained or drawn here. torch's own random state is left as it was.
        attributes: how a method of attributes is measured.
        transfer: how a method of class and content codes is measured.

    Returns:
        A dictionary of plain numbers, the content of `evaluation.json`; its keys are listed in
        `dcorr_models.evaluation`.

    Raises:
        UserError: no test image, labels of another kind than the method was trained on, classes of
            which a split has fewer than two, an unknown name of an attribute, or options for
            another kind of method.
    """
    if not len(splits.test):
        raise UserError("the test split has no image to measure on: train on data that have some")
    multilabel = splits.test.labels.dtype == torch.float32
    if method.has_label_code and method.multilabel != multilabel:
        kinds = ("exclusive classes", "attributes")
        raise UserError(
            f"this {type(method).__name__} was trained on {kinds[method.multilabel]}, and these "
            f"data have {kinds[multilabel]}: measure it on the data that it was trained on"
        )
    if attributes is not None and attributes != AttributeProtocol() and not multilabel:
        raise UserError(
            "these data have exclusive classes: leave the options that are for attributes out"
        )
    if transfer is not None and transfer != ClassContentProtocol() and not method.has_class_vectors:
        raise UserError(
            f"this {type(method).__name__} has no class and content codes: leave the options that "
            "are for those (--transfer) out"
        )
    began = time.monotonic()
    if method.has_class_vectors:
        result = evaluate_class_content(
            method, splits, transfer or ClassContentProtocol(), seed=seed
        )
    elif multilabel:
        result = evaluate_attributes(method, splits, attributes or AttributeProtocol(), seed=seed)
    else:
        result = evaluate_classes(method, splits, seed=seed)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result
