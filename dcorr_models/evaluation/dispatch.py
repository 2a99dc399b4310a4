"""One entrance to the evaluation of every kind of method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from dcorr_models.data.base import Splits
from dcorr_models.data.views import labelled_part
from dcorr_models.errors import UserError
from dcorr_models.evaluation.attributes import evaluate_attributes
from dcorr_models.evaluation.class_content import evaluate_class_content
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.classes import evaluate_classes
from dcorr_models.evaluation.disentanglement import evaluate_latent
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.generation import (
    class_code_purity,
    content_leakage,
    judging_classifier,
    measure_samples,
)
from dcorr_models.evaluation.generation_features import check_features
from dcorr_models.evaluation.generation_protocol import GenerationProtocol
from dcorr_models.evaluation.protocol import AttributeProtocol
from dcorr_models.methods.base import Method
from dcorr_models.methods.class_conditional import ClassConditional
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.metrics.recognition import Classifier

__all__ = ["evaluate"]


def evaluate(
    method: Method,
    splits: Splits,
    *,
    seed: int = 0,
    attributes: AttributeProtocol | None = None,
    transfer: ClassContentProtocol | None = None,
    generation: GenerationProtocol | None = None,
    disentanglement: DisentanglementProtocol | None = None,
    target_names: Sequence[str] = (),
    factor_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Reconstruction, leakage and editing on the test split.

    Args:
        method: a trained method; of classes, of attributes, of class and content codes, or
            without a label code. One that draws images of a class is measured by these too, and one
            without an encoder by these alone. One of independent latent numbers is measured by
            these and its drawn images, whatever the labels.
        splits: probes, SVMs and classifiers learn on the labelled images of `train`; everything is
            measured on `test`. Its labels decide what kind of measurement it is. Methods of
            independent latent numbers are measured on all splits; without test images, as where the
            published code trains on all, all but their reconstructions.
        seed: of whatever is trained or drawn here. torch's own random state is left as it was.
        attributes: how a method of attributes is measured.
        transfer: how a method of class and content codes is measured.
        generation: how a method that draws images of a class is measured.
        disentanglement: how a method of independent latent numbers is measured.
        target_names: of the data's targets, for the report.
        factor_names: of the data's ground-truth factors, for the report.

    Returns:
        A dictionary of plain numbers, the content of `evaluation.json`; its keys are listed in
        `dcorr_models.evaluation`.

    Raises:
        UserError: no test image for a method of another kind, labels of another kind than the
            method was trained on, classes of which a split has fewer than two, an unknown name of
            an attribute, or options for another kind of method.
    """
    if not len(splits.test) and not isinstance(method, LatentVariable):
        raise UserError("the test split has no image to measure on: train on data that have some")
    multilabel = splits.test.labels.dtype == torch.float32
    _check_options(method, multilabel, attributes, transfer, generation, disentanglement)
    if generation is not None and isinstance(method, ClassConditional):
        shape = tuple(splits.test.images.shape[1:])
        check_features(generation.features, shape, splits.test.value_range)
    began = time.monotonic()
    if isinstance(method, LatentVariable):
        protocol = disentanglement or DisentanglementProtocol()
        result = evaluate_latent(method, splits, protocol, seed=seed, factor_names=factor_names)
        return {**result, "seconds": round(time.monotonic() - began, 1)}
    splits = splits._replace(train=labelled_part(splits.train))
    drawn = generation or GenerationProtocol()
    classifier = None
    if isinstance(method, ClassConditional):
        classifier = judging_classifier(splits, drawn, seed=seed)
    result = _codes(
        method,
        splits,
        attributes or AttributeProtocol(),
        transfer or ClassContentProtocol(),
        drawn,
        classifier,
        seed=seed,
    )
    if "class_code" in result.get("regression", {}) and target_names:
        result["regression"]["target_names"] = list(target_names)
    if isinstance(method, ClassConditional):
        if method.has_encoder and method.has_class_vectors:
            probes = content_leakage(method, splits, drawn, seed=seed)
            result["leakage"] = {**probes, **result["leakage"]}
            result["purity"] = class_code_purity(method, splits.test, drawn, seed=seed)
        result["generation"] = measure_samples(
            method, splits, drawn, seed=seed, classifier=classifier
        )
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def _codes(
    method: Method,
    splits: Splits,
    attributes: AttributeProtocol,
    transfer: ClassContentProtocol,
    generation: GenerationProtocol,
    classifier: Classifier | None,
    *,
    seed: int,
) -> dict[str, Any]:
    """What is measured of the codes of images; nothing where there is no encoder."""
    if not method.has_encoder:
        return {"format": 1, "kind": "generation", "split": "test", "num_images": len(splits.test)}
    if method.has_class_vectors:
        return evaluate_class_content(method, splits, transfer, seed=seed)
    if splits.test.labels.dtype == torch.float32:
        return evaluate_attributes(method, splits, attributes, seed=seed)
    # other methods of classes are measured with all: their numbers are of all
    most = generation.probe_images if isinstance(method, ClassConditional) else None
    return evaluate_classes(method, splits, seed=seed, probe_images=most, classifier=classifier)


def _check_options(
    method: Method,
    multilabel: bool,
    attributes: AttributeProtocol | None,
    transfer: ClassContentProtocol | None,
    generation: GenerationProtocol | None,
    disentanglement: DisentanglementProtocol | None,
) -> None:
    """Refuses labels of another kind, and options that would be passed over."""
    own = type(method).__name__
    if method.has_label_code and method.multilabel != multilabel:
        kinds = ("exclusive classes", "attributes")
        raise UserError(
            f"this {own} was trained on {kinds[method.multilabel]}, and these "
            f"data have {kinds[multilabel]}: measure it on the data that it was trained on"
        )
    if attributes not in (None, AttributeProtocol()) and not multilabel:
        raise UserError(
            "these data have exclusive classes: leave the options that are for attributes out"
        )
    if transfer not in (None, ClassContentProtocol()) and not method.has_class_vectors:
        raise UserError(
            f"this {own} has no class and content codes: leave the options that are for those "
            "(--transfer) out"
        )
    if generation not in (None, GenerationProtocol()) and not isinstance(method, ClassConditional):
        raise UserError(
            f"this {own} draws no images of a class: leave the options that are for those "
            "(--generation) out"
        )
    latent = isinstance(method, LatentVariable)
    if disentanglement not in (None, DisentanglementProtocol()) and not latent:
        raise UserError(
            f"this {own} has no independent latent numbers: leave the options that are for those "
            "(--disentanglement) out"
        )
    if attributes not in (None, AttributeProtocol()) and latent:
        raise UserError(f"this {own} knows no attributes: leave the options that are for those out")
