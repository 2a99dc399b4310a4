"""The evaluation of methods of attributes: CDNet's SVM protocol, effects of edits, leakage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import Splits
from dcorr_models.editing.labels import label_index
from dcorr_models.evaluation.common import decode, encode, start
from dcorr_models.evaluation.protocol import AttributeProtocol
from dcorr_models.methods.base import Codes, Method
from dcorr_models.metrics.attribute_labels import single_class
from dcorr_models.metrics.attribute_recognition import edit_effects, train_attribute_classifier
from dcorr_models.metrics.leakage_attributes import attribute_leakage
from dcorr_models.metrics.svm_editing import svm_editing

__all__ = ["evaluate_attributes"]

_INTENSITIES = 10  # as many as in CDNet's Fig. 7

Skipped = dict[str, str]  # name of an attribute, and why it was left out


def evaluate_attributes(
    method: Method, splits: Splits, protocol: AttributeProtocol, *, seed: int
) -> dict[str, Any]:
    """Everything but the seconds; see `evaluate`."""
    names = _names(method, splits.test.labels.shape[1])
    columns = _columns(protocol.names, names)
    result, codes, labels = start("attributes", method, splits)
    readable = method.has_label_code and method.infers_attributes
    result["leakage"] = _leakage(
        method, splits, codes, protocol, names, readable=readable, seed=seed
    )
    if readable:
        result["soft_target"] = _soft_target(codes.label, labels, names)
    if method.has_label_code:
        edited = Edited(method, codes, names, columns)
        result["svm"] = _svm(edited, splits, protocol, seed=seed)
        result["edits"] = _edits(edited, splits, protocol, seed=seed)
    return result


class Edited(NamedTuple):
    """What edits of the test split start from."""

    method: Method
    codes: Codes
    names: Sequence[str]
    columns: Sequence[int]  # of the attributes to edit

    def images(self, rows: Tensor, values: dict[int, float | Tensor] | None = None) -> Tensor:
        """Some of the test images, with these attributes set to these values."""
        label = self.codes.label[rows]
        label = editing.set_attributes(label, values) if values else label
        return decode(self.method, Codes(label, self.codes.residual[rows]))

    def without(self, reasons: Skipped) -> list[int]:
        """The columns of the attributes that can be measured."""
        return [column for column in self.columns if self.names[column] not in reasons]


def _leakage(
    method: Method,
    splits: Splits,
    codes: Codes,
    protocol: AttributeProtocol,
    names: Sequence[str],
    *,
    readable: bool,
    seed: int,
) -> dict[str, Any]:
    train, test = splits.train, splits.test
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(train), generator=generator)[: protocol.probe_images].sort().values
    reasons = _single(train.labels[rows], "training codes", names, range(len(names)))
    reasons |= _single(test.labels, "test codes", names, range(len(names)))
    kept = [column for column, name in enumerate(names) if name not in reasons]
    if not kept:
        return {"skipped": reasons}
    measured = attribute_leakage(
        encode(method, train, rows).residual,
        train.labels[rows],
        codes.residual,
        test.labels,
        names=names,
        attributes=kept,
        label_codes=codes.label if readable else None,
        max_train=None,
        max_dcor=protocol.dcor_images,
        seed=seed,
    )
    return {**measured, "skipped": reasons}


def _soft_target(label_codes: Tensor, labels: Tensor, names: Sequence[str]) -> dict[str, Any]:
    accuracy = ((label_codes > 0.5) == labels.bool()).double().mean(dim=0)
    return {
        "names": list(names),
        "accuracy": accuracy.mean().item(),
        "per_attribute": accuracy.tolist(),
    }


def _svm(
    edited: Edited, splits: Splits, protocol: AttributeProtocol, *, seed: int
) -> dict[str, Any]:
    names, test_labels = edited.names, splits.test.labels
    reasons = _single(splits.train.labels, "training images", names, edited.columns)
    for column in edited.columns:
        if bool(test_labels[:, column].all()):
            reasons.setdefault(names[column], "no test image is without it")
    kept = edited.without(reasons)
    if not kept:
        return {"skipped": reasons}
    measured = svm_editing(
        splits.train,
        splits.test,
        lambda rows, column, intensity: edited.images(rows, {column: intensity}),
        names=names,
        attributes=kept,
        intensities=protocol.intensities or default_curve(edited.method),
        reconstruct=edited.images,
        max_test_images=protocol.svm_test_images,
        repeats=protocol.svm_repeats,
        max_per_side=protocol.svm_train_images,
        penalty=protocol.svm_penalty,
        standardise=protocol.svm_standardise,
        balanced=protocol.svm_balanced,
        seed=seed,
    )
    return {**measured, "skipped": reasons}


def _edits(
    edited: Edited, splits: Splits, protocol: AttributeProtocol, *, seed: int
) -> dict[str, Any]:
    reasons = _single(splits.train.labels, "training images", edited.names, edited.columns)
    kept = edited.without(reasons)
    if not kept:
        return {"skipped": reasons}
    inferred = edited.method.infers_attributes
    absent, present = protocol.values or ((0.0, 1.0) if inferred else (-1.0, 1.0))
    labels = splits.test.labels[: protocol.edit_images]

    def flip(rows: Tensor, column: int) -> Tensor:
        opposite = torch.where(labels[rows, column] == 1, absent, present)
        return edited.images(rows, {column: opposite})

    classifier = train_attribute_classifier(
        splits.train,
        held_out=splits.test,
        epochs=protocol.classifier_epochs,
        max_images=protocol.classifier_images,
        seed=seed,
    )
    effects = edit_effects(
        classifier, labels, edited.images, flip, names=edited.names, attributes=kept
    )
    return {**effects, "values": [absent, present], "skipped": reasons}


def default_curve(method: Method) -> list[float]:
    """Ten intensities up to the method's strongest: for CDNet 0.3, 0.6, ..., 3."""
    strongest = max(method.intensities)
    return [round(float(v), 6) for v in np.linspace(strongest / _INTENSITIES, strongest, 10)]


def _single(labels: Tensor, where: str, names: Sequence[str], columns: Sequence[int]) -> Skipped:
    reasons = {names[column]: single_class(labels[:, column], where) for column in columns}
    return {name: reason for name, reason in reasons.items() if reason}


def _names(method: Method, count: int) -> list[str]:
    if method.label_names is None or len(method.label_names) != count:
        return [str(column) for column in range(count)]
    return list(method.label_names)


def _columns(wanted: Sequence[str] | None, names: Sequence[str]) -> list[int]:
    if wanted is None:
        return list(range(len(names)))
    return [label_index(name, names, kind="attribute") for name in wanted]
