"""What auto-encoders with one encoder for both codes share: networks, codes, the class loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method
from dcorr_models.methods.checks import check_at_least, check_choice, check_separate
from dcorr_models.methods.regularisers import Regulariser, alone, regulariser_of
from dcorr_models.nets.autoencoder import PlainDecoder
from dcorr_models.nets.cdnet import ARCHITECTURES, ConvEncoder

__all__ = ["DecoderInput", "Decorrelation", "OneEncoder", "class_loss"]

DecoderInput = Literal["soft", "discrete", "none"]
DECODER_INPUTS = ("soft", "discrete", "none")


class Decorrelation(NamedTuple):
    """The regulariser between ŷ and z, and its weight in the loss."""

    loss: Regulariser | None
    weight: float


class OneEncoder(Method):
    """Base of the methods with one encoder, image to {ŷ, z}, and a decoder.

    Args:
        architecture: a name in `nets.cdnet.ARCHITECTURES`.
        image_shape: channels, height and width of the images.
        num_labels: classes, or attributes of a multilabel problem.
        multilabel: labels are attribute vectors.
        latent_dim: size of z.
        dropout: rate in the dense layers of the encoder.
        decoder_input: what the decoder is given for the label: its soft target ŷ (`soft`); the
            discrete label, known in training and decided from ŷ afterwards (`discrete`); or nothing
            (`none`), and then the code is not divided: all `num_labels + latent_dim` outputs of the
            encoder are the residual code.
        decorrelation: see `regularisers.regulariser_of`.
        decorrelation_weight: its weight.
        encoder: the user's own, images to (N, num_labels + latent_dim).
        decoder: the user's own, called with (label code, z), giving images.
    """

    def __init__(
        self,
        *,
        architecture: str,
        image_shape: tuple[int, int, int],
        num_labels: int,
        multilabel: bool,
        latent_dim: int,
        dropout: float,
        decoder_input: DecoderInput,
        decorrelation: str | Regulariser,
        decorrelation_weight: float,
        encoder: nn.Module | None,
        decoder: nn.Module | None,
    ) -> None:
        super().__init__()
        check_choice(
            architecture=(architecture, ARCHITECTURES),
            decoder_input=(decoder_input, DECODER_INPUTS),
        )
        # In a tuple, a module stays out of the parameters: it is a loss, not part of the model.
        self.decorrelation = Decorrelation(regulariser_of(decorrelation), decorrelation_weight)
        sizes = ARCHITECTURES[architecture]
        multiple = 2 ** len(sizes.encoder_widths)
        if None in (encoder, decoder) and any(side % multiple for side in image_shape[1:]):
            raise UserError(
                f"image_shape {tuple(image_shape)} does not fit architecture {architecture!r}: "
                f"height and width must be multiples of {multiple}"
            )
        check_at_least(1, latent_dim=latent_dim, num_labels=num_labels)
        check_at_least(0, decorrelation_weight=decorrelation_weight)
        if not 0 <= dropout < 1:
            raise UserError(f"dropout must lie in [0, 1), got {dropout}")
        check_separate(*(module for module in (encoder, decoder) if module is not None))
        self.image_shape, self.num_labels = image_shape, num_labels
        self.multilabel, self.latent_dim = multilabel, latent_dim
        self.decoder_input = decoder_input
        self.has_label_code = decoder_input != "none"
        self.architecture_range = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}[sizes.output]
        # A decoder of the user's own may give any range.
        self.value_range = self.architecture_range if decoder is None else None
        size = num_labels + latent_dim
        if encoder is None:
            encoder = ConvEncoder(image_shape, sizes, size, dropout=dropout)
        self.encoder = encoder
        self.decoder = PlainDecoder(image_shape, sizes, size) if decoder is None else decoder

    def split(self, code: Tensor) -> tuple[Tensor, Tensor]:
        """The encoder's output, divided: (N, num_labels) logits of ŷ, and z (N, latent_dim)."""
        return code[:, : self.num_labels], code[:, self.num_labels :]

    def soft_target(self, logits: Tensor) -> Tensor:
        """(N, num_labels) probabilities ŷ: softmax, or sigmoid if multilabel (Eqs. 4 and 5)."""
        return logits.sigmoid() if self.multilabel else logits.softmax(dim=1)

    def decided(self, soft: Tensor) -> Tensor:
        """ŷ to a discrete label: 1 for the largest entry, or for all above ½ if multilabel."""
        if self.multilabel:
            return (soft > 0.5).to(soft.dtype)
        return F.one_hot(soft.argmax(dim=1), self.num_labels).to(soft.dtype)

    def as_code(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """True labels as a label code: (N, K) of 0 and 1."""
        if self.multilabel:
            return labels.to(dtype)
        return F.one_hot(labels, self.num_labels).to(dtype)

    def encode(self, images: Tensor) -> Codes:
        """Images to the label code that the decoder knows, and the residual code."""
        code: Tensor = self.encoder(images)
        if not self.has_label_code:
            return Codes(code[:, :0], code)
        logits, residual = self.split(code)
        soft = self.soft_target(logits)
        return Codes(self.decided(soft) if self.decoder_input == "discrete" else soft, residual)

    def decode(self, codes: Codes) -> Tensor:
        """Codes to images; the label code may hold any real values."""
        images: Tensor = self.decoder(codes.label, codes.residual)
        return images

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Both networks and the regulariser, by the names of the arguments."""
        n, shape = len(images), tuple(images.shape)
        yield "encoder", lambda: self.encoder(images), (n, self.num_labels + self.latent_dim)
        codes = self.encode(images)
        yield "decoder", lambda: self.decode(codes), shape
        if self.decorrelation.loss is not None:
            # Before a run begins there are no other processes yet.
            single = alone(self.decorrelation.loss)
            logits, residual = self.split(self.encoder(images))
            yield "decorrelation", lambda: single(self.soft_target(logits), residual), ()


def class_loss(logits: Tensor, labels: Tensor, *, multilabel: bool) -> tuple[Tensor, Tensor]:
    """Cross-entropy of ŷ, and the share of right decisions.

    Args:
        logits: (N, K), of the softmax, or of K sigmoids if `multilabel`.
        labels: int64 (N,), or (N, K) of 0 and 1 if `multilabel`.
        multilabel: binary cross-entropy, averaged over images and attributes.

    Returns:
        Two scalars: the loss with its gradient, in nats, and the accuracy without one.

    Reference:
        Song, Koyejo and Zhang 2019 (mddAE), Eqs. 8 and 9, averaged over the batch.

    Example:
        >>> loss, accuracy = class_loss(torch.zeros(2, 4), torch.tensor([0, 3]), multilabel=False)
        >>> round(loss.item(), 4), accuracy.item()
        (1.3863, 0.5)
    """
    if multilabel:
        loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        correct = (logits.detach() > 0) == (labels > 0.5)
    else:
        loss = F.cross_entropy(logits, labels)
        correct = logits.detach().argmax(dim=1) == labels
    return loss, correct.float().mean()
