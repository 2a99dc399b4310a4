"""Learned codes of classes, or of attributes: one for each, shared by all images that have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.nets.latent_table import LatentTable

__all__ = ["ClassEmbeddings", "Combine"]

Combine = Literal["sum", "mean", "concatenation"]
_NAMED = 20


class ClassEmbeddings(nn.Module):
    r"""The class code of an image from its label.

    With one class an image, its row. With K attributes, each has two embeddings, one for images
    that have it and one for those that have not, and the class code is their

    - `sum`, $\sum_k e_{k, y_k}$,
    - `mean`, the sum divided by K, or
    - `concatenation`, $(e_{1, y_1}, \dots, e_{K, y_K})$, each of `class_dim / K` numbers.

    Args:
        num_labels: classes, or attributes.
        class_dim: size of the class code.
        multilabel: labels are attributes.
        combine: see above; without meaning for classes.

    Example:
        >>> embeddings = ClassEmbeddings(3, 4, multilabel=True, combine="sum")
        >>> code = embeddings(torch.tensor([[1.0, 0.0, 1.0]]))
        >>> rows = embeddings.table.weight[[1, 2, 5]]  # present, absent, present
        >>> torch.equal(code[0], rows.sum(0))
        True
    """

    seen: Tensor

    def __init__(
        self,
        num_labels: int,
        class_dim: int,
        *,
        multilabel: bool = False,
        combine: Combine = "sum",
    ) -> None:
        super().__init__()
        self.multilabel, self.combine = multilabel, combine
        joined = multilabel and combine == "concatenation"
        if joined and class_dim % num_labels:
            down = class_dim // num_labels * num_labels
            raise UserError(
                f"combine=concatenation divides the class code among the attributes: class_dim "
                f"must be a multiple of {num_labels}, got {class_dim}; take {down + num_labels}"
                + (f" or {down}" if down else "")
            )
        rows = 2 * num_labels if multilabel else num_labels
        self.table = LatentTable(rows, class_dim // num_labels if joined else class_dim)
        self.register_buffer("seen", torch.zeros(rows, dtype=torch.bool))

    def meet(self, labels: Tensor) -> None:
        """Takes note of the labels that the training images have."""
        self.seen.zero_()
        self.seen[self.index(labels.to(self.seen.device)).flatten()] = True

    def index(self, labels: Tensor) -> Tensor:
        """Classes (N,) or attributes (N, K) to the rows that each image has: (N, 1) or (N, K)."""
        if not self.multilabel:
            return labels[:, None]
        return 2 * torch.arange(labels.shape[1], device=labels.device) + (labels > 0.5).long()

    def combined(self, rows: Tensor) -> Tensor:
        """The embeddings (N, K, ...) of each image to its class code (N, class_dim)."""
        if self.multilabel and self.combine == "concatenation":
            return rows.flatten(1)
        return rows.mean(dim=1) if self.combine == "mean" else rows.sum(dim=1)

    def forward(self, labels: Tensor) -> Tensor:
        """Classes (N,) or attributes (N, K) to class codes (N, class_dim)."""
        return self.combined(self.table(self.index(labels)))

    def combined_mean(self) -> Tensor:
        """(1, class_dim): the class code of no class in particular: means of trained embeddings.

        Of all classes; or of the two embeddings of each attribute, and then combined.
        """
        weight, seen = self.table.weight, self.seen.to(self.table.weight.dtype)[:, None]
        groups = self.table.weight.shape[0] // 2 if self.multilabel else 1
        rows = weight.reshape(groups, -1, weight.shape[1])
        known = seen.reshape(groups, -1, 1)
        means = (rows * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
        return self.combined(means[None])

    def refuse_unseen(self, labels: Tensor, names: Sequence[str] | None) -> None:
        """Raises `UserError` with the list of the classes that no training image had."""
        index = self.index(labels)
        missing = sorted(set(index[~self.seen[index]].tolist()))
        if not missing:
            return
        words = [self._name(row, names) for row in missing[:_NAMED]]
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        raise UserError(
            f"no training image had the labels {', '.join(words)}{more}, and they have no "
            "embedding: encode an image of them instead, or train on them"
        )

    def vectors(self) -> Tensor:
        """(rows, dim) embeddings; NaN for those never trained."""
        return torch.where(self.seen[:, None], self.table.weight, torch.nan)

    def _name(self, row: int, names: Sequence[str] | None) -> str:
        label = row // 2 if self.multilabel else row
        word = str(label) if names is None else names[label]
        return word if not self.multilabel or row % 2 else f"no {word}"
