"""What methods share that describe an image by independent numbers, without labels: VAEs and GANs.

The numbers are c, of a standard normal prior, one for a factor of the images where all goes well.
A GAN's generator may have nuisance numbers s beside them, which no encoder reads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dcorr_models.errors import UserError
from dcorr_models.methods.base import Codes, Method

__all__ = ["Gaussian", "LatentVariable"]

NUISANCE_SEED = 0


class Gaussian(NamedTuple):
    """Independent normal distributions, as an encoder gives them."""

    mean: Tensor  # (N, latent_dim)
    logvar: Tensor  # (N, latent_dim): logarithms of the variances

    def draw(self, *, generator: torch.Generator | None = None) -> Tensor:
        """A sample of each, (N, latent_dim), with gradient to mean and variance.

        Example:
            >>> Gaussian(torch.ones(2, 3), torch.full((2, 3), -200.0)).draw().mean().item()
            1.0
        """
        noise = torch.randn(
            self.mean.shape,
            generator=generator,
            dtype=self.mean.dtype,
            device=self.mean.device,
        )
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class LatentVariable(Method):
    """A method that describes an image by c and draws images from c, and from s where it has s.

    Labels are never read: any will do, also none (-1). Subclasses set `image_shape`, `latent_dim`
    and `nuisance_dim`, and write `render`; one with an encoder writes `posterior` too, one without
    sets `has_encoder` to False. Its stages set `reads_labels` to False. Images that come out lie in
    `value_range`, that of the data: a generator that ends in tanh is rescaled within `render`.
    """

    has_label_code = False
    reads_labels = False
    multilabel = False
    num_labels = 0
    value_range = (0.0, 1.0)
    latent_dim: int
    """Size of c."""
    nuisance_dim: int = 0
    """Size of s; 0 where c is all that there is."""

    @abstractmethod
    def render(self, c: Tensor, s: Tensor) -> Tensor:
        """(N, latent_dim) and (N, nuisance_dim) to images (N, C, H, W) in `value_range`."""

    def posterior(self, images: Tensor) -> Gaussian:
        """(N, C, H, W) images to q(c | x). Only methods with an encoder override it.

        Raises:
            UserError: there is no encoder.
        """
        raise UserError(
            f"{type(self).__name__} has no encoder, so an image of yours has no codes in it: it "
            "only draws images, sample(count); take a method with an encoder instead"
        )

    def encode(self, images: Tensor) -> Codes:
        """Images to the mean of q(c | x), as the residual code; the label code has no columns."""
        mean = self.posterior(images).mean
        return Codes(mean[:, :0], mean)

    def decode(self, codes: Codes) -> Tensor:
        """Codes to images: c is the residual code.

        Where there is s, all images are drawn with the same one, of a generator of seed 0: what an
        image looks like depends on its c alone.
        """
        c = codes.residual
        return self.generate(c, self.fixed_nuisance(c))

    def fixed_nuisance(self, c: Tensor) -> Tensor:
        """The s of `decode`, a row for each of c: the same on every device and in every call."""
        generator = torch.Generator().manual_seed(NUISANCE_SEED)
        # float64 first: the same numbers in every precision, but for rounding
        s = torch.randn(1, self.nuisance_dim, generator=generator, dtype=torch.float64)
        return s.to(c).expand(len(c), -1)

    def generate(
        self, c: Tensor, s: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Images of these numbers.

        Args:
            c: (N, latent_dim), on the device of the networks.
            s: (N, nuisance_dim); None draws it of N(0, I).
            generator: source of s, on that device; None is torch's own.

        Returns:
            (N, C, H, W) in `value_range`.

        Raises:
            UserError: c or s of another shape.
        """
        self._check("c", c, len(c), self.latent_dim)
        if s is None:
            shape = (len(c), self.nuisance_dim)
            s = torch.randn(shape, generator=generator, dtype=c.dtype, device=c.device)
        self._check("s", s, len(c), self.nuisance_dim)
        return self.render(c, s)

    def sample_codes(self, count: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(count, latent_dim) of the prior, N(0, I), on the device of the networks."""
        own = next(p for p in self.parameters() if p.is_floating_point())
        shape = (count, self.latent_dim)
        return torch.randn(shape, generator=generator, dtype=own.dtype, device=own.device)

    def sample(
        self,
        count: int,
        *,
        generator: torch.Generator | None = None,
        codes: Tensor | None = None,
    ) -> Tensor:
        """New images. All codes are drawn before the first image is: first c, then s.

        Args:
            count: how many.
            generator: source of the codes, on the device of the networks; None is torch's own.
            codes: c, (count, latent_dim); None draws them of the prior.

        Returns:
            (count, C, H, W) in `value_range`.

        Raises:
            UserError: codes of another shape.
        """
        c = self.sample_codes(count, generator=generator) if codes is None else codes
        self._check("codes", c, count, self.latent_dim)
        return self.generate(c, generator=generator)

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Mean and log-variance of the codes, where there is an encoder; then images of codes."""
        shape = (len(images), self.latent_dim)
        if self.has_encoder:
            yield "the encoder (means)", lambda: self.posterior(images).mean, shape
            yield "the encoder (log-variances)", lambda: self.posterior(images).logvar, shape
        c = images.new_zeros(shape)
        name = "the decoder" if self.has_encoder else "the generator"
        yield name, lambda: self.generate(c, self.fixed_nuisance(c)), tuple(images.shape)

    def _check(self, name: str, codes: Tensor, count: int, size: int) -> None:
        if codes.shape != (count, size):
            raise UserError(
                f"{type(self).__name__} wants {name} of shape ({count}, {size}), got "
                f"{tuple(codes.shape)}"
            )
