"""Lr-LiVAE's joint step as it would be without sharing: every player has a forward pass of its own.

The losses and, at equal parameters and noise, the gradients are those of `LrLiVAEStage`. Nothing is
computed that a player does not need: what lies before the networks that it learns through runs
without gradients. It is what the shared step is timed against.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dcorr_models.methods.lr_livae_stage import Joint, LrLiVAEStage
from dcorr_models.methods.ml_vae import draw
from dcorr_models.methods.vae_gan_stage import gaussian_kl
from dcorr_models.training.gan import critic_cost, generator_cost


class AfreshStage(LrLiVAEStage):
    """One forward pass of all that a player needs, for one player after the other.

    Made for the GAN form with the latent classifier, and for labelled images alone.
    """

    def _joint_step(self, joint: Joint) -> dict[str, Tensor]:
        # The same noise for all: the passes differ in their gradients alone.
        state = torch.get_rng_state()
        for player in ("discriminator", "adversary", "decoder", "content_encoder", "class_encoder"):
            torch.set_rng_state(state)
            getattr(self, f"_update_{player}_afresh")(joint)
        return {}

    def _codes(self, joint: Joint, learning: str) -> tuple[Tensor, ...]:
        """z_s and z_u with the posterior of z_u, with gradients for the learning encoder alone."""
        with torch.set_grad_enabled(learning == "class_encoder"):
            z_s = self.networks["class_encoder"](joint.images)
        with torch.set_grad_enabled(learning == "content_encoder"):
            mean, log_variance = self.networks["content_encoder"](joint.images).chunk(2, dim=1)
            z_u = draw(mean, log_variance)
        return z_s, z_u, mean, log_variance

    def _images(self, joint: Joint, learning: str) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructions, drawn images, and the classes of both."""
        z_s, z_u, *_ = self._codes(joint, learning)
        labels = self._prior_labels(joint.labels)
        prior = self._prior_codes(labels)
        with torch.set_grad_enabled(learning == "decoder"):
            rebuilt, sampled = self.networks["decoder"]((z_s, z_u), prior)
        return rebuilt, sampled, torch.cat([joint.labels, labels])

    def _update_discriminator_afresh(self, joint: Joint) -> None:
        form = self.settings.gan_loss
        rebuilt, sampled, labels = self._images(joint, "discriminator")
        logits = self.networks["discriminator"](
            torch.cat([joint.images, rebuilt, sampled]), torch.cat([joint.labels, labels])
        )[0]
        real, *fakes = logits.chunk(3)
        costs = [critic_cost(fake, real=False, form=form) for fake in fakes]
        self.update(
            "discriminator", torch.stack(costs).sum() + critic_cost(real, real=True, form=form)
        )

    def _update_adversary_afresh(self, joint: Joint) -> None:
        with torch.no_grad():
            mean, log_variance = self.networks["content_encoder"](joint.images).chunk(2, dim=1)
            z_u = draw(mean, log_variance)
        self.update("adversary", F.cross_entropy(self.networks["adversary"](z_u), joint.labels))

    def _update_decoder_afresh(self, joint: Joint) -> None:
        rebuilt, sampled, labels = self._images(joint, "decoder")
        logits = self.networks["discriminator"](torch.cat([rebuilt, sampled]), labels)[0]
        wanted = sum(generator_cost(part, form=self.settings.gan_loss) for part in logits.chunk(2))
        loss = self._pixel(rebuilt, joint) + self.settings.gan_weight * wanted
        self._update_alone("decoder", loss)

    def _update_content_encoder_afresh(self, joint: Joint) -> None:
        z_s, z_u, mean, log_variance = self._codes(joint, "content_encoder")
        (rebuilt,) = self.networks["decoder"]((z_s, z_u))
        log_q = self.networks["adversary"](z_u).log_softmax(dim=1)
        loss = self._pixel(rebuilt, joint)
        loss = loss + self.settings.kl_weight * gaussian_kl(mean, log_variance).mean()
        loss = loss - self.settings.confusion_weight * log_q.mean()
        self._update_alone("content_encoder", loss)

    def _update_class_encoder_afresh(self, joint: Joint) -> None:
        z_s, z_u, *_ = self._codes(joint, "class_encoder")
        (rebuilt,) = self.networks["decoder"]((z_s, z_u))
        loss = self.settings.joint_likelihood_weight * self.prior(z_s, joint.labels)[1]
        self._update_alone("class_encoder", loss + self._pixel(rebuilt, joint))

    def _pixel(self, rebuilt: Tensor, joint: Joint) -> Tensor:
        return self.settings.reconstruction_weight * F.mse_loss(rebuilt, joint.images)

    def _update_alone(self, name: str, loss: Tensor) -> None:
        self.update(name, loss, inputs=[*self.networks[name].parameters()])
