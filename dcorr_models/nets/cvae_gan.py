"""cVAE-GAN's own networks: a discriminator that knows no class, running means of features.

Bao et al. 2017. Encoder, decoder and classifier are those of `nets.cvae` and `nets.lr_livae`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcorr_models.nets.projection_discriminator import (
    CriticArchitecture,
    Judgement,
    ProjectionDiscriminator,
)

__all__ = ["PlainDiscriminator", "RunningClassMeans"]


class PlainDiscriminator(nn.Module):
    """Lr-LiVAE's discriminator without the part that reads the class.

    Args:
        image_shape: channels, height and width.
        sizes: the architecture.

    Example:
        >>> sizes = CriticArchitecture(convolutions=((4, 2), (8, 1)), dense=(6,))
        >>> judged = PlainDiscriminator((1, 8, 8), sizes)(torch.zeros(2, 1, 8, 8))
        >>> judged.logits.shape, judged.features.shape
        (torch.Size([2]), torch.Size([2, 6]))
    """

    def __init__(self, image_shape: tuple[int, int, int], sizes: CriticArchitecture) -> None:
        super().__init__()
        whole = ProjectionDiscriminator(image_shape, sizes, num_classes=1)
        self.features, self.logit = whole.features, whole.logit

    def forward(self, images: Tensor) -> Judgement:
        """(N, C, H, W) -> logits (N,), and what the last layer reads, (N, F)."""
        features = self.features(images)
        return Judgement(self.logit(features).squeeze(1), features)


class RunningClassMeans(nn.Module):
    r"""Means of each class over the batches so far: :math:`m \leftarrow \rho m + (1 - \rho) b`.

    A batch need not hold all classes. The first mean of a class is taken as it is.

    Args:
        num_labels: classes.
        features: numbers of a mean.
        decay: ρ, in [0, 1); 0 keeps the last batch's mean alone.

    Example:
        >>> means = RunningClassMeans(2, 1, decay=0.5)
        >>> for value in (4.0, 8.0):
        ...     out = means(torch.tensor([[value], [0.0]]), torch.tensor([True, False]))
        >>> out.tolist(), means.seen.tolist()
        ([[6.0], [0.0]], [True, False])
    """

    means: Tensor
    seen: Tensor

    def __init__(self, num_labels: int, features: int, *, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("means", torch.zeros(num_labels, features))
        self.register_buffer("seen", torch.zeros(num_labels, dtype=torch.bool))

    def forward(self, batch: Tensor, present: Tensor) -> Tensor:
        """The means with a batch's own in them, (K, F); the gradient is that of the batch's part.

        Args:
            batch: (K, F), the batch's mean of each class.
            present: bool (K,), which classes it holds; other rows of `batch` are not read.
        """
        share = torch.where(self.seen, 1 - self.decay, 1.0)[:, None].to(batch.dtype)
        moved = torch.lerp(self.means, batch, share)
        updated = torch.where(present[:, None], moved, self.means)
        with torch.no_grad():
            self.means.copy_(updated)
            self.seen.logical_or_(present)
        return updated
