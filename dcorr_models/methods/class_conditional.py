"""What methods share that draw images of a class: Lr-LiVAE, cVAE, cVAE-GAN, the projection cGAN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method

__all__ = ["ClassConditional"]


class ClassConditional(Method):
    """A method that draws new images of a class asked for.

    Subclasses set `samples_from` beside what every `Method` sets. One without encoders sets
    `has_encoder` to False and needs neither `encode` nor `decode`, but a `sample` of its own; one
    with encoders has `draw_codes`.
    """

    multilabel = False
    samples_from: str
    """What codes of a class are drawn from, in words for tables: "class Gaussians"."""

    def draw_codes(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Codes:
        """Codes of new images, one pair for each class asked for; `decode` makes the images.

        A method with an encoder overrides it.

        Args:
            labels: int64 (N,), 0 to num_labels - 1, on the device of the networks.
            generator: source of the codes, on that device; None is torch's own.

        Raises:
            UserError: a class that the method does not know, or a method without codes.
        """
        raise UserError(
            f"{type(self).__name__} draws images without codes that `decode` could read: call "
            "sample(labels)"
        )

    def sample(self, labels: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """New images, one of each class asked for: `draw_codes`, decoded.

        All codes are drawn before the first image is, so that the codes depend on the labels and
        the generator alone. A method without an encoder overrides it.

        Args:
            labels: int64 (N,), 0 to num_labels - 1, on the device of the networks.
            generator: source of the codes, on that device; None is torch's own.

        Returns:
            (N, C, H, W) in the method's `value_range`.

        Raises:
            UserError: a class that the method does not know.
        """
        return self.decode(self.draw_codes(labels, generator=generator))

    def known_classes(self) -> Tensor:
        """int64 (K,) on the CPU: the classes that can be drawn, in ascending order.

        All of them, unless a method leaves those out that no training image had.
        """
        return torch.arange(self.num_labels)

    def check_classes(self, labels: Tensor) -> None:
        """Refuses labels of which there is no class; looks at their values.

        Raises:
            UserError: a label that is none of `known_classes`, or labels of another kind.
        """
        if labels.ndim != 1 or labels.dtype != torch.int64:
            raise UserError(
                "sample() wants labels as int64 of shape (N,), got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        known = self.known_classes()
        wrong = labels[~torch.isin(labels.cpu(), known).to(labels.device)]
        if len(wrong):
            raise UserError(
                f"sample() knows {len(known)} classes, from {int(known[0])} to {int(known[-1])}, "
                f"got {int(wrong[0])}: ask for one that training images had (known_classes())"
            )

    def encode(self, images: Tensor) -> Codes:
        """Raises `UserError`: only methods with an encoder override it."""
        raise UserError(
            f"{type(self).__name__} has no encoder, so an image of yours has no codes in it: it "
            "only draws images of a class, sample(labels); take a method with an encoder instead"
        )

    def decode(self, codes: Codes) -> Tensor:
        """Raises `UserError`: only methods with an encoder override it."""
        raise UserError(
            f"{type(self).__name__} has no encoder, so there are no codes to decode: it only draws "
            "images of a class, sample(labels); take a method with an encoder instead"
        )

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """What every method shows, where there is an encoder; and one sample an image."""
        if self.has_encoder:
            yield from super().rehearsal(images)
        labels = self.known_classes()[:1].expand(len(images)).to(images.device)
        yield "sample", lambda: self.sample(labels), tuple(images.shape)
