"""Which images a content transfer combines, and which image it should give."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dcorr_models.data.base import LabelledImages, require_labels
from dcorr_models.errors import DataError

__all__ = ["TransferTriples", "triples_by_content", "triples_by_targets"]

_CHUNK = 64


class TransferTriples(NamedTuple):
    """Rows of a split, int64 (M,) each: what is combined, and what should come out."""

    class_rows: Tensor  # the image that gives the class
    content_rows: Tensor  # the image that gives the content
    target_rows: Tensor  # the true image of that class with that content


def triples_by_content(
    split: LabelledImages, *, pairs: int = 1000, seed: int = 0, name: str = "the data set"
) -> TransferTriples:
    """Random images i and j with the true answer: the image of i's class with j's content.

    The true image is drawn first, uniformly from those that allow a question: i is then another
    image of its class with another content, and j another image of its content with another class,
    each drawn uniformly. Where every class has every content once, this is a uniform draw of the
    pairs (i, j) that differ in both. Pairs of one class would be reconstructions of j, pairs of
    one content reconstructions of i; the paper does not say whether it has them.

    Args:
        split: labels int64 (N,), and `content`.
        pairs: how many to draw, with replacement.
        seed: of the draws.
        name: what errors call the data.

    Returns:
        The rows of i, of j and of the true images.

    Raises:
        DataError: There are no content labels or no classes, or no image allows a question.
        ValueError: `pairs` is below 1.

    Reference:
        Gabbay and Hoshen 2020 (LORD), section 4, Table 1: Cars3D and SmallNORB.

    Example:
        >>> images = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
        >>> labels, content = torch.tensor([0, 0, 1, 1]), torch.tensor([5, 6, 5, 6])
        >>> triples = triples_by_content(LabelledImages(images, labels, content=content), pairs=3)
        >>> bool((labels[triples.class_rows] == labels[triples.target_rows]).all())
        True
        >>> bool((content[triples.content_rows] == content[triples.target_rows]).all())
        True
    """
    if split.content is None:
        raise DataError(
            f"{name} has no content labels, which say what images of other classes show the same: "
            "content transfer needs them (LabelledImages(content=...)), or landmarks"
        )
    labels, content = _classes(split, name), split.content.cpu()
    _check_pairs(pairs)
    _, class_of = torch.unique(labels, return_inverse=True)
    _, content_of = torch.unique(content, return_inverse=True)
    in_class, in_content = _groups(class_of), _groups(content_of)
    # A target needs an image of its class with another content, and the other way round.
    usable = _has_other(class_of, content_of) & _has_other(content_of, class_of)
    candidates = usable.nonzero().flatten()
    if len(candidates) == 0:
        raise DataError(
            f"{name} has no image whose class is seen with another content and whose content is "
            "seen in another class: content transfer has nothing to compare"
        )
    generator = torch.Generator().manual_seed(seed)
    targets = candidates[torch.randint(len(candidates), (pairs,), generator=generator)]
    class_rows, content_rows = [], []
    for target in targets.tolist():
        same = in_class[int(class_of[target])]
        class_rows.append(_draw(same[content_of[same] != content_of[target]], generator))
        same = in_content[int(content_of[target])]
        content_rows.append(_draw(same[class_of[same] != class_of[target]], generator))
    return TransferTriples(torch.tensor(class_rows), torch.tensor(content_rows), targets)


def triples_by_targets(
    split: LabelledImages, *, pairs: int = 1000, seed: int = 0, name: str = "the data set"
) -> TransferTriples:
    """The same question without content labels: content from the image with the nearest landmarks.

    The true image is B, drawn uniformly from the images whose class has at least two. The class
    comes from A, another image of B's class, drawn uniformly; the content from the image of a
    different class whose `targets` are nearest to those of B in Euclidean distance, the first one
    of equals.

    Args:
        split: labels int64 (N,), and `targets` (N, T), for CelebA the landmarks.
        pairs: how many to draw, with replacement.
        seed: of the draws.
        name: what errors call the data.

    Returns:
        The rows of A, of the image that gives the content, and of B.

    Raises:
        DataError: There are no targets or no classes, a target is NaN or infinite, there is one
            class, or none has two images.
        ValueError: `pairs` is below 1.

    Reference:
        Gabbay and Hoshen 2020 (LORD), section 4, Table 1: CelebA, 68 landmarks.

    Example:
        >>> images, labels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1])
        >>> landmarks = torch.tensor([[0.0], [1.0], [0.9], [0.2]])
        >>> split = LabelledImages(images, labels, targets=landmarks)
        >>> triples = triples_by_targets(split, pairs=20)
        >>> sorted(set(zip(*(rows.tolist() for rows in triples))))
        [(0, 2, 1), (1, 3, 0), (2, 0, 3), (3, 1, 2)]
    """
    if split.targets is None:
        raise DataError(
            f"{name} has no targets such as landmarks (LabelledImages(targets=...)): content "
            "transfer between images without content labels needs them"
        )
    labels, targets = _classes(split, name), split.targets.cpu().double()
    _check_pairs(pairs)
    if not targets.isfinite().all():
        raise DataError(f"{name} has targets that are NaN or infinite")
    _, class_of, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    candidates = (counts[class_of] > 1).nonzero().flatten()
    if len(counts) < 2 or len(candidates) == 0:
        raise DataError(
            f"content transfer needs two classes, one of them with two images: {name} has "
            f"{len(counts)} {'class' if len(counts) == 1 else 'classes'}, the largest with "
            f"{int(counts.max()) if len(counts) else 0} of its images"
        )
    generator = torch.Generator().manual_seed(seed)
    wanted = candidates[torch.randint(len(candidates), (pairs,), generator=generator)]
    in_class = _groups(class_of)
    class_rows = [
        _draw(same[same != row], generator)
        for row in wanted.tolist()
        for same in (in_class[int(class_of[row])],)
    ]
    content_rows = []
    for rows in torch.split(wanted, _CHUNK):
        distances = torch.cdist(targets[rows], targets, compute_mode="donot_use_mm_for_euclid_dist")
        distances[class_of[rows][:, None] == class_of] = torch.inf
        content_rows.append(distances.argmin(dim=1))
    return TransferTriples(torch.tensor(class_rows), torch.cat(content_rows), wanted)


def _classes(split: LabelledImages, name: str) -> Tensor:
    if split.labels.dtype != torch.int64:
        raise DataError(f"{name} has attributes, content transfer needs one class an image")
    require_labels(name, split.labels)
    return split.labels.cpu()


def _check_pairs(pairs: int) -> None:
    if pairs < 1:
        raise ValueError(f"pairs must be at least 1, got {pairs}")


def _groups(members: Tensor) -> tuple[Tensor, ...]:
    """The rows of each group, for groups numbered from 0."""
    rows: tuple[Tensor, ...] = torch.split(
        members.argsort(stable=True), members.bincount().tolist()
    )
    return rows


def _has_other(group: Tensor, kind: Tensor) -> Tensor:
    """Bool (N,): does a row's group have a row of another kind?"""
    pairs = torch.unique(torch.stack([group, kind], dim=1), dim=0)
    kinds: Tensor = pairs[:, 0].bincount()[group] > 1
    return kinds


def _draw(rows: Tensor, generator: torch.Generator) -> int:
    return int(rows[torch.randint(len(rows), (1,), generator=generator)])
