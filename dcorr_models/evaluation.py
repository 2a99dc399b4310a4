"""Which metrics a trained method is measured by, on held-out data."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.metrics import image_quality, leakage, recognition
from dcorr_models.metrics.recognition import Classifier

__all__ = ["encode_split", "evaluate"]


def evaluate(method: Method, splits: Splits, *, seed: int = 0) -> dict[str, Any]:
    """Reconstruction, leakage and editing on the test split.

    Args:
        method: a trained method with mutually exclusive classes.
        splits: probes and the independent classifier learn on `train`; everything is measured
            on `test`.
        seed: of probes and classifier. torch's own random state is left as it was.

    Returns:
        A dictionary of plain numbers, the content of `evaluation.json`: `reconstruction`
        (`metrics.image_quality`), `leakage` (`metrics.leakage`), `editing`
        (`metrics.recognition`: Case 1 edits of every test image to every other class), the
        accuracy of the method's own soft target, and the seconds that it took.

    Raises:
        UserError: a multilabel method, or a split with fewer than two classes.
    """
    if method.multilabel:
        raise UserError("these metrics need exclusive classes, and this method has attributes")
    for name, split in (("train", splits.train), ("test", splits.test)):
        if len(torch.unique(split.labels)) < 2:
            raise UserError(f"the {name} split has fewer than two classes: nothing to measure")
    began = time.monotonic()
    with editing.inference(method):
        train_codes, _, train_labels = encode_split(method, splits.train)
        codes, images, labels = encode_split(method, splits.test)
        reconstructions = _decode(method, codes)
        result: dict[str, Any] = {
            "format": 1,
            "split": "test",
            "num_images": len(images),
            "reconstruction": image_quality.image_quality(
                images, reconstructions, value_range=splits.test.value_range
            ),
            "leakage": leakage.leakage(
                train_codes.residual,
                train_labels,
                codes.residual,
                labels,
                label_codes=codes.label,
                seed=seed,
            ),
            "soft_target": {
                "accuracy": (codes.label.argmax(dim=1) == labels).float().mean().item()
            },
        }
    # Outside: the classifier needs gradients.
    classifier = recognition.train_classifier(splits.train, held_out=splits.test, seed=seed)
    with editing.inference(method):
        result["editing"] = _editing(method, classifier, codes, labels)
    result["seconds"] = round(time.monotonic() - began, 1)
    return result


def encode_split(
    method: Method, split: LabelledImages, *, batch_size: int = 500
) -> tuple[Codes, Tensor, Tensor]:
    """Codes, images and labels of a whole split on the CPU, in its order."""
    device = next(method.parameters()).device
    images, labels = split.tensors()
    with editing.inference(method):
        parts = [method.encode(part.to(device)) for part in torch.split(images, batch_size)]
    codes = Codes(*(torch.cat([c.cpu() for c in column]) for column in zip(*parts, strict=True)))
    return codes, images, labels


def _decode(method: Method, codes: Codes, *, batch_size: int = 500) -> Tensor:
    device = next(method.parameters()).device
    parts = zip(*(torch.split(code, batch_size) for code in codes), strict=True)
    return torch.cat([method.decode(Codes(y.to(device), z.to(device))).cpu() for y, z in parts])


def _editing(
    method: Method, classifier: Classifier, codes: Codes, labels: Tensor
) -> dict[str, Any]:
    """Every test image edited to every class but its own, judged by the classifier."""
    per_class, hits, edits = [], 0.0, 0
    for target in range(method.num_labels):
        others = labels != target
        count = int(others.sum())
        swapped = editing.swap_class(codes.label[others], target)
        edited = _decode(method, Codes(swapped, codes.residual[others]))
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
