"""What cVAE and cVAE-GAN share: an encoder and a decoder that are told the class, and a classifier.

The classifier fills the label in where an image comes without one: metrics, edits and inpainting
read images alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes
from dcorr_models.methods.checks import check_separate
from dcorr_models.methods.class_conditional import ClassConditional

__all__ = ["LabelConditional"]


class LabelConditional(ClassConditional):
    """q(z | x, y) and p(x | z, y), both given the one-hot label y, and z of the standard normal.

    `Codes.label` is the one-hot label (N, num_labels): the true one where `encode` is given it,
    otherwise the class that the classifier finds most likely. `Codes.residual` is the mean of z.
    An edit of the class exchanges the label and keeps z.

    Subclasses set what every `Method` sets, and `latent_dim`.
    """

    samples_from = "standard normal and one-hot"
    needs_every_class = True
    latent_dim: int
    encoder: nn.Module
    decoder: nn.Module
    classifier: nn.Module

    def set_networks(self, *, encoder: nn.Module, decoder: nn.Module, **others: nn.Module) -> None:
        """Keeps the networks, each a player with parameters of its own.

        Args:
            encoder: called with (images, one-hot labels), giving (N, 2 · latent_dim): means of z,
                then log-variances.
            decoder: called with (one-hot labels, z), giving images.
            others: the classifier, and what else a method has.
        """
        networks = {"encoder": encoder, "decoder": decoder, **others}
        check_separate(*networks.values())
        for name, network in networks.items():
            self.add_module(name, network)

    def one_hot(self, labels: Tensor) -> Tensor:
        """(N,) classes to (N, num_labels) of 0 and 1, of the default float type."""
        return F.one_hot(labels, self.num_labels).to(torch.get_default_dtype())

    def class_logits(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to what the classifier makes of them, (N, num_labels)."""
        logits: Tensor = self.classifier(images)
        return logits

    def encode(self, images: Tensor, labels: Tensor | None = None) -> Codes:
        """Images to the label code and the mean of z.

        Args:
            images: (N, C, H, W).
            labels: int64 (N,), their classes; None for those that the classifier finds.

        Raises:
            UserError: labels of another shape or kind, or of no class.
        """
        if labels is None:
            labels = self.class_logits(images).argmax(dim=1)
        else:
            self._check_labels(images, labels)
        label = self.one_hot(labels)
        mean, _ = self.encoder(images, label).chunk(2, dim=1)
        return Codes(label, mean)

    def decode(self, codes: Codes) -> Tensor:
        """Label codes and z to images."""
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images

    def draw_codes(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Codes:
        """Codes of new images: the one-hot label, and z of the standard normal."""
        self.check_classes(labels)
        z = torch.randn(len(labels), self.latent_dim, device=labels.device, generator=generator)
        return Codes(self.one_hot(labels), z)

    def _check_labels(self, images: Tensor, labels: Tensor) -> None:
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise UserError(
                f"encode() wants one label for each of {len(images)} images, int64 of shape "
                f"({len(images)},), got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        wrong = labels[(labels < 0) | (labels >= self.num_labels)]
        if len(wrong):
            raise UserError(
                f"encode() knows labels 0 to {self.num_labels - 1}, got {int(wrong[0])}: leave "
                "labels out for images of which the class is not known"
            )
