"""Means of a code over the images with a label and without it: directions to edit along."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.training.stage import Batch, Stage

__all__ = ["CodeMeans", "CodeMeansStage"]


class CodeMeans(nn.Module):
    """Sums of codes for each label, in float64, from which means and differences follow.

    Args:
        num_labels: K classes or attributes.
        latent_dim: size Z of the code.

    Example:
        >>> means = CodeMeans(num_labels=1, latent_dim=2)
        >>> codes = torch.tensor([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]])
        >>> means.add(means.batch_sums(codes, torch.tensor([[1.0], [1.0], [0.0]])))
        >>> means.vectors().tolist()
        [[2.0, -5.0]]
    """

    sums: Tensor

    def __init__(self, *, num_labels: int, latent_dim: int) -> None:
        super().__init__()
        # A row a label and one for all images; the last column counts the images.
        shape = (num_labels + 1, latent_dim + 1)
        self.register_buffer("sums", torch.zeros(shape, dtype=torch.float64))

    def batch_sums(self, codes: Tensor, labels: Tensor) -> Tensor:
        """What a batch adds: (N, Z) codes and (N, K) labels of 0 and 1 to (K + 1, Z + 1)."""
        codes, labels = codes.double(), labels.double()
        return F.pad(labels, (0, 1), value=1.0).T @ F.pad(codes, (0, 1), value=1.0)

    def add(self, sums: Tensor) -> None:
        """Adds the sums of one batch, or of all processes' shares of it."""
        self.sums += sums

    def means(self) -> Tensor:
        """(K, Z) mean code of the images with each label; 0 for a label that no image had."""
        own = self.sums[:-1]
        return own[:, :-1] / own[:, -1:].clamp(min=1)

    def vectors(self) -> Tensor:
        """(K, Z) mean code with the label minus mean code without it.

        0 for a label that all images had, or none: there is nothing to tell it by.
        """
        others = self.sums[-1:] - self.sums[:-1]
        without = others[:, :-1] / others[:, -1:].clamp(min=1)
        known = (self.sums[:-1, -1:] > 0) & (others[:, -1:] > 0)
        return torch.where(known, self.means() - without, 0.0)


class CodeMeansStage(Stage):
    """Fills a `CodeMeans` from training images with a trained encoder; nothing learns.

    Args:
        means: what is filled, from zero.
        encoder: images to (N, Z or more); the first Z columns are the code.
        num_labels: classes or attributes.
        multilabel: labels are attributes (N, K), not classes (N,).
        images: at least so many training images; more than the split has count some twice.
        batch_size: images of a step.
    """

    def __init__(
        self,
        means: CodeMeans,
        encoder: nn.Module,
        *,
        num_labels: int,
        multilabel: bool,
        images: int,
        batch_size: int,
    ) -> None:
        super().__init__(
            "code_means",
            networks={"means": means},
            optimizers={},
            fixed={"encoder": encoder},
            max_steps=-(-images // batch_size),
            batch_size=batch_size,
        )
        self.num_labels, self.multilabel = num_labels, multilabel

    def setup(self, fabric: Fabric) -> None:
        """Begins at zero, also when the same method is trained a second time."""
        super().setup(fabric)
        self.networks["means"].sums.zero_()

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Adds one batch, of all processes."""
        means = self.networks["means"]
        codes = self.run_fixed("encoder", batch["image"])[:, : means.sums.shape[1] - 1]
        labels = batch["label"]
        if not self.multilabel:
            labels = F.one_hot(labels, self.num_labels)
        means.add(self.sum_over_ranks(means.batch_sums(codes, labels)))
        return {"norm/vectors": means.vectors().norm(dim=1).mean()}
