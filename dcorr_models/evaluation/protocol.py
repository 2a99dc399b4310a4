"""What the evaluation of a method of attributes leaves to choose."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from dcorr_models.errors import UserError
from dcorr_models.methods.checks import check_at_least

__all__ = ["AttributeProtocol"]


@dataclass(frozen=True)
class AttributeProtocol:
    """How much is measured of a method of attributes, and how; None stands for all there is.

    Args:
        names: attributes that are edited; all by default. Leakage is measured for all.
        intensities: values that the SVM protocol writes into the label code, lowest first; by
            default ten evenly spaced ones up to the method's strongest, 0.3 to 3 for CDNet.
        values: what takes an attribute away and what gives it, for the matrix of edits; by
            default 0 and 1, or -1 and 1 for a method that infers no attributes and adds to the
            image.
        svm_test_images: images without the attribute that each SVM curve edits, from the first on.
        svm_repeats: SVMs an attribute.
        svm_train_images: images with, and without, the attribute that an SVM learns from at most.
        svm_penalty: C of the SVMs.
        svm_standardise: pixels are standardised before the SVM.
        svm_balanced: as many images with as without the attribute.
        edit_images: test images that the matrix of edits edits, from the first on.
        classifier_images: training images that its classifier learns from at most.
        classifier_epochs: passes over them.
        probe_images: training images that the leakage probes learn from at most.
        dcor_images: test images that the distance correlation is taken over at most.

    Raises:
        UserError: a number that is too small, intensities that do not rise, a value that is not
            finite, no name or one twice.
    """

    names: list[str] | None = None
    intensities: list[float] | None = None
    values: tuple[float, float] | None = None
    svm_test_images: int | None = 250
    svm_repeats: int = 5
    svm_train_images: int | None = 1_000
    svm_penalty: float = 1.0
    svm_standardise: bool = True
    svm_balanced: bool = True
    edit_images: int | None = 500
    classifier_images: int | None = 6_000
    classifier_epochs: int = 8
    probe_images: int | None = 10_000
    dcor_images: int | None = 5_000

    def __post_init__(self) -> None:
        counts = {
            "svm_test_images": self.svm_test_images,
            "svm_repeats": self.svm_repeats,
            "svm_train_images": self.svm_train_images,
            "edit_images": self.edit_images,
            "classifier_epochs": self.classifier_epochs,
        }
        check_at_least(1, **{name: n for name, n in counts.items() if n is not None})
        pairs = {
            "classifier_images": self.classifier_images,
            "probe_images": self.probe_images,
            "dcor_images": self.dcor_images,
        }
        check_at_least(2, **{name: n for name, n in pairs.items() if n is not None})
        if not 0 < self.svm_penalty < math.inf:
            raise UserError(f"svm_penalty must be above 0 and finite, got {self.svm_penalty}")
        if self.names is not None and not self.names:
            raise UserError("names is empty: name an attribute, or leave it out for all of them")
        if self.names is not None and len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise UserError(f"names has {twice!r} twice: name each attribute once")
        given = self.intensities
        if given is not None and not _rising(given):
            raise UserError(f"intensities must be finite and rise from the first on, got {given}")
        if self.values is not None and not all(map(_is_finite, self.values)):
            raise UserError(f"values must be finite, got {self.values}")


def _rising(values: list[float]) -> bool:
    finite = all(map(_is_finite, values))
    return bool(values) and finite and all(a < b for a, b in itertools.pairwise(values))


def _is_finite(value: float) -> bool:
    """Whether a label code, which is single precision, can hold it."""
    return abs(value) <= torch.finfo(torch.float32).max
