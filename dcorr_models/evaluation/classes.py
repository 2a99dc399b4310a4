"""The evaluation of methods whose labels are exclusive classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import Splits
from dcorr_models.errors import UserError
from dcorr_models.evaluation.common import decode, encode, some_rows, start
from dcorr_models.methods.base import Codes, Method
from dcorr_models.metrics import leakage, recognition
from dcorr_models.metrics.recognition import Classifier
from dcorr_models.pictures import is_point

__all__ = ["evaluate_classes"]


def evaluate_classes(
    method: Method,
    splits: Splits,
    *,
    seed: int,
    probe_images: int | None = None,
    classifier: Classifier | None = None,
) -> dict[str, Any]:
    """Everything but the seconds; see `evaluate`.

    Args:
        method: see `evaluate`.
        splits: see `evaluate`.
        seed: see `evaluate`.
        probe_images: training images whose codes the leakage probes learn from at most.
        classifier: what judges the edits; one is trained on the training images by default.
    """
    for name, split in (("train", splits.train), ("test", splits.test)):
        if len(torch.unique(split.labels)) < 2:
            raise UserError(f"the {name} split has fewer than two classes: nothing to measure")
    result, codes, labels = start("classes", method, splits)
    rows = some_rows(splits.train, probe_images, seed=seed)
    result["leakage"] = leakage.leakage(
        encode(method, splits.train, rows).residual,
        splits.train.labels[rows],
        codes.residual,
        labels,
        label_codes=codes.label if method.has_label_code else None,
        seed=seed,
    )
    if not method.has_label_code:
        return result
    hits = codes.label.argmax(dim=1) == labels
    result["soft_target"] = {"accuracy": hits.float().mean().item()}
    if is_point(splits.test.images.shape):
        return result
    if classifier is None:
        classifier = recognition.train_classifier(splits.train, held_out=splits.test, seed=seed)
    result["editing"] = _editing(method, classifier, codes, labels)
    return result


def _editing(
    method: Method, classifier: Classifier, codes: Codes, labels: Tensor
) -> dict[str, Any]:
    """Every test image edited to every class but its own, judged by the classifier."""
    per_class, hits, edits = [], 0.0, 0
    for target in range(method.num_labels):
        others = labels != target
        count = int(others.sum())
        swapped = editing.swap_class(codes.label[others], target)
        edited = decode(method, Codes(swapped, codes.residual[others]))
        rate = recognition.recognition_rate(
            classifier, edited, torch.full((count,), target, dtype=torch.int64)
        )
        per_class.append(rate)
        hits, edits = hits + rate * count, edits + count
    return {
        "recognised": hits / edits,
        "per_class": per_class,
        "num_edits": edits,
        "classifier_accuracy": classifier.accuracy,
    }
