"""CDNet's second stage in the order of its released code: Dis, then Dec, then Enc_z."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dcorr_models.methods.cdnet_stage import DisentangleStage, Terms
from dcorr_models.training.gan import GateDecision
from dcorr_models.training.stage import Batch, frozen, weighted_sum

__all__ = ["SequentialStage"]


class SequentialStage(DisentangleStage):
    """The same losses, each player after a forward pass of its own, with the others' new weights.

    Every pass draws new dropout masks and moves the running statistics of BatchNorm, as in the
    released code.
    """

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One update of each player, one after the other."""
        x, networks = batch["image"], self.networks
        adversary = "discriminator" in networks
        decision = GateDecision(generator=True, discriminator=adversary)
        if adversary:
            with torch.no_grad():
                x_hat = networks["decoder"](self._soft_target(x), networks["residual_encoder"](x))
            real, fake = self._costs(self._criticise(x, x_hat)[0])
            decision = self._gate(real, fake)
            if decision.discriminator:
                self.update("discriminator", real + fake)

        # The release decides again, with the discriminator just updated.
        terms, generator = self._update_decoder(x)
        logs = self._update_residual_encoder(x)
        decision = GateDecision(generator, decision.discriminator)
        return {**self._logs(terms, decision), **logs}

    def _update_decoder(self, x: Tensor) -> tuple[Terms, bool]:
        networks, settings = self.networks, self.settings
        with torch.no_grad():
            z = networks["residual_encoder"](x)
        x_hat = networks["decoder"](self._soft_target(x), z)
        others = [networks["discriminator"]] if "discriminator" in networks else []
        with frozen(*others):
            reconstruction = self._reconstruction(x, x_hat)
            loss = weighted_sum(reconstruction, settings.reconstruction)
            if not others:
                self.update("decoder", loss)
                return Terms(reconstruction, None, None), True
            real, fake = self._costs(self._criticise(x, x_hat)[0])
            generator = self._gate(real, fake).generator
            cost = real + fake if settings.generator_sees_real else fake
            if generator:
                self.update("decoder", loss - settings.adversarial_weight * cost)
        return Terms(reconstruction, real, fake), generator

    def _update_residual_encoder(self, x: Tensor) -> dict[str, Tensor]:
        networks = self.networks
        y = self._soft_target(x)
        z = networks["residual_encoder"](x)
        with frozen(*(m for name, m in networks.items() if name != "residual_encoder")):
            reconstruction = weighted_sum(
                self._reconstruction(x, networks["decoder"](y, z)), self.settings.reconstruction
            )
            logs, decorrelation = self._decorrelation(y, z)
            loss = reconstruction if decorrelation is None else reconstruction + decorrelation
            self.update("residual_encoder", loss)
        return logs

    def _reconstruction(self, x: Tensor, x_hat: Tensor) -> dict[str, Tensor]:
        """L_pix and L_feat; the features from a pass of their own, as in the released code."""
        terms = {"pixel": F.mse_loss(x_hat, x)}
        if "discriminator" in self.networks:
            _, features = self._criticise(x, x_hat)
            fake, real = features.chunk(2)
            terms["feature"] = F.mse_loss(fake, real)
        return terms
