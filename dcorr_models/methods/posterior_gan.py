"""What ID-GAN and its conditional rival share: a trained encoder, whose codes a generator is given.

The encoder is that of a VAE, or of any method with a `posterior`; it is trained in a first stage of
the same run, or comes from a finished one, and stays as it is while the generator learns.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.errors import UserError
from dcorr_models.methods.beta_vae import BetaVAE
from dcorr_models.methods.checks import check_choice
from dcorr_models.methods.latent_gan import LatentGAN, LatentGANStage, to_data
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable
from dcorr_models.metrics.posterior_collapse import posterior_collapse
from dcorr_models.training.stage import Batch, Stage

__all__ = ["CodesFrom", "Downsampling", "PosteriorGAN", "PosteriorStage", "shrink"]

CodesFrom = Literal["aggregated", "prior"]
Downsampling = Literal["bilinear", "average"]
VAE_SIDE = 64
"""Largest side of the images of a VAE that is not given."""


class PosteriorGAN(LatentGAN):
    """A GAN whose c is drawn of q(c | x), x of the data, by an encoder trained before it.

    `encode` is that encoder's; `decode` draws with the averaged generator. Subclasses call
    `set_encoder` before `make_players`.
    """

    vae: LatentVariable
    codes_from: CodesFrom

    @abstractmethod
    def __init__(self) -> None:
        super().__init__()

    def set_encoder(
        self,
        vae: LatentVariable | None,
        *,
        start_from: str | None,
        codes_from: CodesFrom,
        downsampling: Downsampling,
    ) -> None:
        """Keeps the method that c is read by; `image_shape` and `latent_dim` are set.

        Raises:
            UserError: a method whose images or codes are not the generator's.
        """
        check_choice(
            codes_from=(codes_from, ("aggregated", "prior")),
            downsampling=(downsampling, ("bilinear", "average")),
        )
        if vae is None:
            channels, height, width = self.image_shape
            small = (channels, min(height, VAE_SIDE), min(width, VAE_SIDE))
            vae = BetaVAE(image_shape=small, latent_dim=self.latent_dim)
        _check_encoder(vae, self.image_shape, self.latent_dim)
        self.vae, self.start_from = vae, start_from
        self.codes_from, self.downsampling = codes_from, downsampling

    def meet(self, train: LabelledImages) -> None:
        """Takes the encoder's weights of `start_from`."""
        self.vae.meet(train)
        if self.start_from is None:
            return
        # Here: what loads a run makes methods.
        from dcorr_models.experiment import load_weights
        from dcorr_models.run_folder import RunFolder

        folder = RunFolder(self.start_from)
        _check_run(self.vae, folder.read_config(), self.start_from)
        load_weights(self.vae, folder)

    def encoder_stages(self) -> list[Stage]:
        """The encoder's own stages, on images of its size; none where a run is started from."""
        if self.start_from is not None:
            return []
        stages = self.vae.stages()
        if self.vae.image_shape != self.image_shape:
            for stage in stages:
                stage.image_transform = self.shrink
        return stages

    def shrink(self, images: Tensor) -> Tensor:
        """Images of the generator's size at the encoder's."""
        return shrink(images, self.vae.image_shape[-1], how=self.downsampling)

    def posterior(self, images: Tensor) -> Gaussian:
        """(N, C, H, W) images in [0, 1] to q(c | x)."""
        return self.vae.posterior(self.shrink(images))

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """What the encoder's method shows, at its own size, then generator and critic."""
        yield from self.vae.rehearsal(self.shrink(images))
        yield from super().rehearsal(images)


class PosteriorStage(LatentGANStage):
    """The step of `LatentGANStage` with c of the aggregated posterior: of q(c | x), x of the batch.

    The encoder reads real images as the critic does, mirrored and noisy, moved to [0, 1].

    Args:
        model: networks and settings.
        name: of the stage.
        weights: of the terms that `wishes` returns, by name.
        frozen_encoder: the encoder does not learn here.
    """

    def __init__(
        self,
        model: PosteriorGAN,
        name: str,
        *,
        weights: Mapping[str, float] | None = None,
        frozen_encoder: bool = True,
    ) -> None:
        encoder = _Posterior(model)
        fixed = {"encoder": encoder} if frozen_encoder else {}
        super().__init__(model, name, weights=weights, fixed=fixed)
        self.codes_from = model.codes_from
        self.kind = type(model.vae).__name__

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of critic and generator; before the first, a look at the encoder."""
        if self.step_index == 0 and "encoder" in self.fixed:
            self._look_at_the_encoder(batch["image"])
        return super().step(batch)

    def codes(self, x: Tensor) -> Tensor:
        """Draws of q(c | x), or of the prior."""
        if self.codes_from == "prior":
            return super().codes(x)
        return self.as_gaussian(self.run_fixed("encoder", to_data(x))).draw()

    def as_gaussian(self, output: Tensor) -> Gaussian:
        """The encoder's output, (N, 2 · latent_dim)."""
        return Gaussian(*output.chunk(2, dim=1))

    def _look_at_the_encoder(self, images: Tensor) -> None:
        assert self.fabric is not None, "setup() comes before step()"
        found = posterior_collapse(*self.as_gaussian(self.run_fixed("encoder", images)))
        if self.fabric.is_global_zero and found["at_prior"] == found["dimensions"]:
            warnings.warn(
                f"the encoder of this {self.kind} tells nothing of an image: all "
                f"{found['dimensions']} dimensions of q(c | x) are at the prior N(0, I), as they "
                "are before training and after a collapse; what the generator is given as c will "
                "mean nothing: train the encoder longer, or with a smaller weight of its KL "
                "divergence",
                stacklevel=2,
            )


class _Posterior(nn.Module):
    """Images in [0, 1] of the generator's size to means and log-variances side by side."""

    def __init__(self, model: PosteriorGAN) -> None:
        super().__init__()
        self.vae, self.side, self.how = model.vae, model.vae.image_shape[-1], model.downsampling

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 2 · latent_dim)."""
        return torch.cat(self.vae.posterior(shrink(images, self.side, how=self.how)), dim=1)


def shrink(images: Tensor, side: int, *, how: Downsampling) -> Tensor:
    """Square images at another size, differentiably; those of that size come back as they are.

    Args:
        images: (N, C, H, W).
        side: pixels, at most H.
        how: `average` of all pixels that become one, as ID-GAN's published code does, or `bilinear`
            between the four nearest, without a filter before it, as its paper says.

    Example:
        >>> image = torch.tensor([[[[0.0, 1.0, 2.0, 9.0]] * 4]])
        >>> shrink(image, 2, how="average")[0, 0, 0].tolist()
        [0.5, 5.5]
        >>> shrink(image, 1, how="bilinear").item(), shrink(image, 1, how="average").item()
        (1.5, 3.0)
    """
    if images.shape[-1] == side:
        return images
    if how == "average":
        return F.adaptive_avg_pool2d(images, side)
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def _check_encoder(vae: LatentVariable, image_shape: tuple[int, int, int], latent_dim: int) -> None:
    kind = type(vae).__name__
    if not isinstance(vae, LatentVariable):
        raise UserError(
            f"vae must be a method such as BetaVAE, got {kind}: give a network of yours to one, "
            "BetaVAE(encoder=..., steps=0)"
        )
    if not vae.has_encoder or isinstance(vae, PosteriorGAN):
        raise UserError(
            f"vae: {kind} has no encoder of its own that codes could be read by: take a method "
            "that has one, such as BetaVAE"
        )
    if vae.latent_dim != latent_dim:
        raise UserError(
            f"the encoder of {kind} gives {vae.latent_dim} numbers and the generator is given "
            f"latent_dim {latent_dim}: set --method.latent_dim or --method.vae.latent_dim"
        )
    (channels, height, width), (own, side, other) = image_shape, vae.image_shape
    if own != channels or side != other or height != width or height % side:
        raise UserError(
            f"the encoder of {kind} reads images of {tuple(vae.image_shape)}, to which the "
            f"generator's {tuple(image_shape)} cannot be reduced: its side must be the encoder's "
            "or a multiple of it, with as many channels: set --method.vae.image_shape"
        )


def _check_run(vae: LatentVariable, config: dict[str, Any], start_from: str) -> None:
    """Refuses a run of another method or of other sizes, by name; warns of other settings."""
    own, theirs = vae.settings(), config.get("method", {})
    names = [str(one.get("class_path")).rpartition(".")[2] for one in (theirs, own)]
    if names[0] != names[1]:
        raise UserError(
            f"start_from {start_from} is a run of {names[0]}, and --method.vae is {names[1]}: set "
            f"--method.vae {names[0]}"
        )
    pairs = {
        name: (_plain(value), _plain(own["init_args"][name]))
        for name, value in theirs.get("init_args", {}).items()
        if name in own.get("init_args", {})
    }
    different = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    for name in ("image_shape", "latent_dim"):
        if name in different:
            raise UserError(
                f"start_from {start_from}: its {names[0]} has {name} {different[name][0]}, and "
                f"--method.vae.{name} is {getattr(vae, name)}: the two must be the same"
            )
    if different:
        listed = ", ".join(f"{k} {there} and not {here}" for k, (there, here) in different.items())
        warnings.warn(
            f"the encoder of start_from {start_from} was trained with {listed}: this run's "
            "settings say otherwise",
            stacklevel=2,
        )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value
