"""A classifier that reads labels from a code: the probe of Cycle-VAE and ML-VAE.

LORD's tables 2 and 3 read the class from content codes (y ← C) and the content from class codes
(y → C) with it. Both are leakage: the nearer to chance, the better the codes are separated.
"""

from __future__ import annotations

from typing import TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.metrics.probes import check_codes

__all__ = ["CodeClassifierScore", "code_classifier", "hold_out", "probe_network"]

WIDTH = 256
RATE = 1e-4
_CHUNK = 10_000


class CodeClassifierScore(TypedDict):
    """What `code_classifier` returns."""

    accuracy: float
    chance: float
    train_accuracy: float
    classes: int
    train_samples: int
    test_samples: int
    dimensions: int
    steps: int
    batch_size: int
    standardised: bool
    seed: int


def code_classifier(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    *,
    steps: int = 100_000,
    batch_size: int = 128,
    standardised: bool = False,
    seed: int = 0,
) -> CodeClassifierScore:
    """How often a small network, trained on codes, names the label of a code it has not seen.

    Protocol: FC 256, batch norm, LeakyReLU 0.2, twice, then FC to the number of labels;
    cross-entropy; Adam with rate 1e-4; batches of 128; 100,000 steps. Each pass over the training
    codes has a new order, and the last codes of a pass that fill no batch are left out of it.

    Args:
        train_codes: Float (N, P), N at least 2. The network trains on their device.
        train_labels: int64 (N,), any numbers of at least two kinds: classes, or contents.
        test_codes: Float (M, P), of other images.
        test_labels: int64 (M,), each of them one of the training labels.
        steps: Updates; the published 100,000, or thousands where data are few and time matters.
        batch_size: Codes a step; all training codes where there are fewer.
        standardised: Codes are divided by the standard deviation of the training codes after
            their mean is taken off, a constant coordinate becomes 0; otherwise they are read as
            they come. The publications name no scaling.
        seed: Of the initial weights and the order of the codes. torch's random state is left as
            it was.

    Returns:
        A dict. `accuracy` on the test codes, a share from 0 to 1; `chance`, the share of the most
        frequent training label, which a network that reads nothing reaches in expectation, and
        which is 1 / `classes` where labels are balanced; `train_accuracy` on the codes it has
        seen; and what was done: `classes`, `train_samples`, `test_samples`, `dimensions`, `steps`,
        `batch_size`, `standardised`, `seed`.

    Raises:
        ValueError: If shapes do not fit, a code is NaN or infinite, there is one training label
            alone, a test label is none of the training labels, or `steps` or `batch_size` is too
            small (1 and 2 are the least).
        TypeError: If codes are not floating point or labels not int64.

    Reference:
        Jha et al., Disentangling factors of variation with cycle-consistent variational
        auto-encoders, 2018, section 4.1; Gabbay and Hoshen (LORD), 2020, section 5, tables 2 and 3.

    Example:
        >>> labels = torch.arange(64) % 2
        >>> codes = torch.stack([labels.float(), torch.zeros(64)], dim=1)
        >>> result = code_classifier(codes, labels, codes[:6], labels[:6], steps=50)
        >>> result["accuracy"], result["chance"]
        (1.0, 0.5)
    """
    _check(train_codes, train_labels, test_codes, test_labels, steps, batch_size)
    codes, held_out = (c.detach().to(torch.float32) for c in (train_codes, test_codes))
    if standardised:
        codes, held_out = _standardise(codes, held_out)
    kinds, labels, counts = torch.unique(
        train_labels.to(codes.device), return_inverse=True, return_counts=True
    )
    wanted = torch.searchsorted(kinds, test_labels.to(codes.device))
    network = _fit(codes, labels, len(kinds), steps=steps, batch_size=batch_size, seed=seed)
    return {
        "accuracy": _accuracy(network, held_out, wanted),
        "chance": counts.max().item() / len(labels),
        "train_accuracy": _accuracy(network, codes, labels),
        "classes": len(kinds),
        "train_samples": len(codes),
        "test_samples": len(held_out),
        "dimensions": codes.shape[1],
        "steps": steps,
        "batch_size": min(batch_size, len(codes)),
        "standardised": standardised,
        "seed": seed,
    }


def probe_network(dimensions: int, classes: int) -> nn.Sequential:
    """The published layers, with PyTorch's own initial weights.

    Example:
        >>> sum(p.numel() for p in probe_network(128, 163).parameters())
        141731
    """
    layers: list[nn.Module] = []
    for width in (dimensions, WIDTH):
        layers += [nn.Linear(width, WIDTH), nn.BatchNorm1d(WIDTH), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, classes))


def hold_out(labels: Tensor, share: float, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows to learn from, and rows to be scored on: a share of each label's rows, drawn at random.

    Of n rows of a label `round(share * n)` are held out, but one at least stays to be learnt from.

    Args:
        labels: int64 (N,).
        share: Above 0 and below 1.
        seed: Of the draw.

    Returns:
        Two int64 tensors of row numbers, both rising.

    Raises:
        ValueError: If `share` is not between 0 and 1.

    Example:
        >>> learn, score = hold_out(torch.tensor([5, 5, 5, 5, 7, 7, 7, 7, 8]), 0.25)
        >>> len(learn), sorted(torch.tensor([5, 5, 5, 5, 7, 7, 7, 7, 8])[score].tolist())
        (7, [5, 7])
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    # Sorting the shuffled labels puts each label's rows together, in random order among themselves.
    order = order[labels.cpu()[order].argsort(stable=True)]
    counts = torch.unique(labels.cpu(), return_counts=True)[1]
    taken = (share * counts).round().long().minimum(counts - 1)
    ends = counts.cumsum(0)
    place = torch.arange(len(order)) - (ends - counts).repeat_interleave(counts)
    out = place < taken.repeat_interleave(counts)
    return order[~out].sort().values, order[out].sort().values


@torch.enable_grad()
def _fit(
    codes: Tensor, labels: Tensor, classes: int, *, steps: int, batch_size: int, seed: int
) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = probe_network(codes.shape[1], classes)
    network.to(codes.device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    generator = torch.Generator().manual_seed(seed)
    batch_size = min(batch_size, len(codes))
    batches: list[Tensor] = []
    for _ in range(steps):
        if not batches:
            order = torch.randperm(len(codes), generator=generator).to(codes.device)
            batches = [part for part in torch.split(order, batch_size) if len(part) == batch_size]
        rows = batches.pop()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(network(codes[rows]), labels[rows]))
        optimizer.step()
    return network.eval()


@torch.no_grad()
def _accuracy(network: nn.Module, codes: Tensor, labels: Tensor) -> float:
    parts = [network(part).argmax(dim=1) for part in torch.split(codes, _CHUNK)]
    return (torch.cat(parts) == labels).double().mean().item()


def _standardise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = train.double().mean(dim=0), train.double().std(dim=0, correction=0)
    # rounding leaves a constant column with a tiny spread, not with 0
    constant = std <= 1e-6 * train.abs().amax(dim=0)
    scale = torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, std))
    scaled = [((codes.double() - mean) * scale).float() for codes in (train, test)]
    return scaled[0], scaled[1]


def _check(
    train_codes: Tensor,
    train_labels: Tensor,
    test_codes: Tensor,
    test_labels: Tensor,
    steps: int,
    batch_size: int,
) -> None:
    check_codes("train_codes", train_codes)
    check_codes("test_codes", test_codes)
    if train_codes.shape[1] != test_codes.shape[1]:
        raise ValueError(
            "train_codes and test_codes need the same number of dimensions, "
            f"got {train_codes.shape[1]} and {test_codes.shape[1]}"
        )
    pairs = (("train", train_codes, train_labels), ("test", test_codes, test_labels))
    for name, codes, labels in pairs:
        if labels.dtype != torch.int64:
            raise TypeError(f"{name}_labels must be int64, got {labels.dtype}")
        if labels.shape != (len(codes),):
            raise ValueError(
                f"{name}_labels must have shape ({len(codes)},) like their codes, "
                f"got {tuple(labels.shape)}"
            )
    known = torch.unique(train_labels)
    if len(known) < 2:
        raise ValueError("train_labels need at least two labels, got one")
    unknown = test_labels[~torch.isin(test_labels, known.to(test_labels.device))]
    if len(unknown):
        raise ValueError(
            f"test_labels must be among the training labels, got {int(unknown[0])}: "
            "nothing can learn to name it"
        )
    if steps < 1 or batch_size < 2:
        raise ValueError(
            f"steps must be 1 or more and batch_size 2 or more, got {steps} and {batch_size}"
        )
