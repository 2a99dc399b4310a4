"""How much of the attributes a code still tells: probes for each, and distance correlation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dcorr_models.metrics.attribute_labels import (
    balanced_accuracy,
    check_attribute_labels,
    check_columns,
    single_class,
)
from dcorr_models.metrics.probes import (
    as_array,
    check_codes,
    dcor_with_floor,
    fit,
    linear_probe,
    mlp_probe,
    standardise,
)

__all__ = ["MLP_WIDTH", "AttributeLeakage", "attribute_leakage"]

# one network reads all attributes, so it is wider than the one that reads a class
MLP_WIDTH = 128


class AttributeLeakage(TypedDict):
    """What `attribute_leakage` measures; serialises to JSON as it is."""

    names: list[str]
    linear_probe: float
    mlp_probe: float
    linear_per_attribute: list[float]
    mlp_per_attribute: list[float]
    chance: float
    dcor: float | None
    dcor_shuffled: float | None
    dcor_samples: int
    train_samples: int
    test_samples: int
    dimensions: int
    mlp_width: int
    seed: int


@torch.no_grad()
def attribute_leakage(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    names: Sequence[str],
    attributes: Sequence[int] | None = None,
    label_codes: Tensor | None = None,
    max_train: int | None = 10_000,
    max_dcor: int | None = 5_000,
    seed: int = 0,
) -> AttributeLeakage:
    """Balanced accuracy of two probes an attribute, and the code's dcor with ŷ.

    Protocol. Codes are standardised as in `leakage`, and the probes learn from the training codes
    alone: for each attribute a logistic regression, and one network with a hidden layer of 128
    ReLU units and an output for each attribute (sigmoid, cross-entropy); their settings are those
    of `leakage`. Either calls an attribute present where its probability exceeds the share of
    training images that have it, which is the best decision for balanced accuracy: the mean of
    the accuracies among test images with the attribute and without it. Chance is 0.5, however
    rare the attribute.

    Args:
        train_codes: Float tensor (N, P), the code z of each training image.
        train_labels: Float tensor (N, A) of 0 and 1.
        test_codes: Float tensor (M, P) of held-out images.
        test_labels: Float tensor (M, A).
        names: A name for each of the A attributes.
        attributes: Columns to measure; all by default.
        label_codes: Float tensor (M, Q), the label code ŷ of the held-out images; without it
            both dcor are None.
        max_train: The probes learn from at most so many training codes, drawn at random; None
            for all. Logistic regression costs about N·P times its iterations for each
            attribute.
        max_dcor: dcor is taken over the first so many test codes at most; it costs their square.
        seed: Of the draw of training codes, of the network, and of the shuffles of dcor.

    Returns:
        A dict: the balanced accuracies as means over the attributes, `linear_probe` and
        `mlp_probe`, and one by one in the order of `names`; `chance`; `dcor` and
        `dcor_shuffled`, as in `leakage`; the sizes and the seed.

    Raises:
        ValueError: If shapes do not fit, a code is NaN or infinite, or an attribute has a single
            class among the training codes or the test codes, by its name.
        TypeError: If codes or labels are not floating point.

    Example:
        >>> labels = (torch.arange(200)[:, None] % torch.tensor([2, 5]) == 0).float()
        >>> codes = labels[:, :1]
        >>> result = attribute_leakage(codes, labels, codes, labels, names=["even", "fifth"])
        >>> result["linear_per_attribute"]
        [1.0, 0.5]
    """
    columns = list(range(len(names))) if attributes is None else list(attributes)
    _check(train_codes, train_labels, test_codes, test_labels, label_codes, names, columns)
    rows = _drawn(len(train_codes), max_train, seed)
    truth, test_truth = train_labels[rows][:, columns].bool(), test_labels[:, columns].bool()
    _check_classes({"training codes": truth, "test codes": test_truth}, names, columns)
    train, test = standardise(as_array(train_codes[rows]), as_array(test_codes))
    learnt = as_array(truth.long())
    linear = np.stack([_linear(train, column, test) for column in learnt.T], axis=1)
    network = fit(mlp_probe(seed, width=MLP_WIDTH), train, _outputs(learnt))
    mlp = _present(network.predict_proba(test), learnt.shape[1])
    shares = learnt.mean(axis=0)
    scores = [_scores(probabilities > shares, test_truth) for probabilities in (linear, mlp)]
    taken = slice(None, max_dcor)
    dependence = dcor_with_floor(
        None if label_codes is None else label_codes[taken], test_codes[taken], seed
    )
    return {
        "names": [names[column] for column in columns],
        "linear_probe": float(np.mean(scores[0])),
        "mlp_probe": float(np.mean(scores[1])),
        "linear_per_attribute": scores[0],
        "mlp_per_attribute": scores[1],
        "chance": 0.5,
        "dcor": dependence[0],
        "dcor_shuffled": dependence[1],
        "dcor_samples": 0 if label_codes is None else len(test_codes[taken]),
        "train_samples": len(train),
        "test_samples": len(test),
        "dimensions": train.shape[1],
        "mlp_width": MLP_WIDTH,
        "seed": seed,
    }


def _linear(
    train: npt.NDArray[np.float64], learnt: npt.NDArray[np.int64], test: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    probabilities: npt.NDArray[np.float64] = fit(linear_probe(), train, learnt).predict_proba(test)
    return probabilities[:, 1]


def _outputs(learnt: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """scikit-learn takes a single attribute for two exclusive classes."""
    return learnt[:, 0] if learnt.shape[1] == 1 else learnt


def _present(probabilities: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.float64]:
    return probabilities[:, 1:] if count == 1 else probabilities


def _scores(predicted: npt.NDArray[np.bool_], truth: Tensor) -> list[float]:
    values = balanced_accuracy(torch.from_numpy(predicted), truth.cpu())
    return [value for value in values if value is not None]  # both classes were checked before


def _drawn(count: int, limit: int | None, seed: int) -> Tensor:
    if limit is None or count <= limit:
        return torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(count, generator=generator)[:limit].sort().values


def _check(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    label_codes: Tensor | None,
    names: Sequence[str],
    columns: Sequence[int],
) -> None:
    check_codes("train_codes", train_codes)
    check_codes("test_codes", test_codes)
    if train_codes.shape[1] != test_codes.shape[1]:
        raise ValueError(
            "train_codes and test_codes need the same number of dimensions, "
            f"got {train_codes.shape[1]} and {test_codes.shape[1]}"
        )
    check_attribute_labels("train_labels", train_labels, len(train_codes))
    check_attribute_labels("test_labels", test_labels, len(test_codes))
    if train_labels.shape[1] != test_labels.shape[1]:
        raise ValueError(
            "train_labels and test_labels need the same attributes, "
            f"got {train_labels.shape[1]} and {test_labels.shape[1]}"
        )
    check_columns(names, columns, train_labels.shape[1])
    if label_codes is not None:
        check_codes("label_codes", label_codes)
        if len(label_codes) != len(test_codes):
            raise ValueError(
                "label_codes and test_codes need the same number of samples, "
                f"got {len(label_codes)} and {len(test_codes)}"
            )


def _check_classes(truths: dict[str, Tensor], names: Sequence[str], columns: Sequence[int]) -> None:
    for where, truth in truths.items():
        for column, present in zip(columns, truth.T, strict=True):
            reason = single_class(present, where)
            if reason:
                raise ValueError(f"attribute {names[column]!r}: {reason}")
