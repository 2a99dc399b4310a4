"""ID-GAN, its ablations and rivals: whose loss moves what, and what a step draws anew."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dcorr_models.errors import UserError
from dcorr_models.methods import Codes, FactorVAE
from dcorr_models.methods.adversarial_vae import AdversarialVAE
from dcorr_models.methods.id_gan import IDGAN, code_cost
from dcorr_models.methods.info_gan import InfoGAN
from dcorr_models.methods.latent_cgan import LatentCGAN
from dcorr_models.methods.latent_gan import BottleneckWeight, GanSettings, to_generated
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.methods.posterior_gan import shrink
from tests.dcorr_models.methods import conditional_toys
from tests.dcorr_models.methods import latent_gan_toys as toys

WHO = {
    "gan": {"generator": {"generator"}, "discriminator": {"discriminator"}},
    "info_gan": {"generator": {"generator"}, "discriminator": {"discriminator", "reader"}},
    "id_gan": {"generator": {"generator"}, "discriminator": {"discriminator"}},
    "limited": {"generator": {"generator"}, "discriminator": {"discriminator"}},
    "end_to_end": {
        "generator": {"generator"},
        "discriminator": {"discriminator"},
        "autoencoder": {"vae"},
    },
    "latent_cgan": {"generator": {"generator"}, "discriminator": {"discriminator"}},
    "adversarial_vae": {
        "autoencoder": {"encoder", "decoder"},
        "discriminator": {"discriminator"},
    },
}


@pytest.mark.parametrize("name", WHO)
def test_each_network_moves_under_its_own_loss_alone(name):
    everyone = set().union(*WHO[name].values())
    for player, wanted in (*WHO[name].items(), (None, everyone)):
        moved = conditional_toys.moved_by(lambda: toys.LastStage(toys.ALL[name]()), player)
        # The mean follows the generator, where it has moved.
        assert moved - {"average"} == wanted, player
        assert ("average" in moved) == ("generator" in wanted)


@pytest.mark.parametrize("name", WHO)
def test_resume_is_exact(name, tmp_path):
    def make(seed: int):
        model = toys.ALL[name](seed=seed)
        if hasattr(model, "vae") and name != "end_to_end":
            torch.manual_seed(1)  # the encoder of a first stage, the same in every run
            for parameter in model.vae.parameters():
                nn.init.normal_(parameter, std=0.1)
        return toys.LastStage(model)

    conditional_toys.check_resume(make, tmp_path)


@pytest.mark.parametrize("name", WHO)
def test_a_step_in_half_precision_is_finite(name):
    stage = toys.prepared(toys.ALL[name](), precision="bf16-mixed")
    logs = stage.step(conditional_toys.batch(toys.BATCH))
    assert all(torch.isfinite(value) for value in logs.values())


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_double")
def test_costs_and_gradients_of_id_gan_are_those_of_the_formulas():
    model = toys.id_gan(gan={"generator_lr": 0.0, "critic_lr": 0.0, "r1_weight": 3.0}).double()
    ours, data = copy.deepcopy(model), conditional_toys.batch(toys.BATCH)
    data["image"] = data["image"].double()
    torch.manual_seed(3)
    logs = toys.prepared(model).step(data)

    torch.manual_seed(3)
    x = (2 * data["image"] - 1).requires_grad_()
    c = ours.vae.posterior(data["image"]).draw().detach()
    s, again = (torch.randn(toys.BATCH, toys.NUISANCE, dtype=c.dtype) for _ in range(2))
    real, fake = ours.discriminator(x)[0], ours.discriminator(ours.generator(s, c).detach())[0]
    (slope,) = torch.autograd.grad(real.sum(), x, create_graph=True)
    r1 = slope.square().sum(dim=(1, 2, 3)).mean()
    terms = {"real": F.softplus(-real).mean(), "fake": F.softplus(fake).mean(), "r1": r1}
    cost = terms["real"] + terms["fake"] + 3 * r1
    torch.autograd.backward(cost, inputs=[*ours.discriminator.parameters()])
    fakes = ours.generator(again, c)
    mean, logvar = ours.vae.posterior((fakes + 1) / 2)
    read = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    terms["distillation"] = -read.log_prob(c).sum(dim=1).mean()
    terms["generator"] = F.softplus(-ours.discriminator(fakes)[0]).mean()
    cost = terms["generator"] + 0.1 * terms["distillation"]
    torch.autograd.backward(cost, inputs=[*ours.generator.parameters()])
    assert set(logs) == {f"loss/{name}" for name in terms}
    for name, value in terms.items():
        torch.testing.assert_close(logs[f"loss/{name}"], value.detach(), rtol=1e-6, atol=1e-7)
    for network in ("generator", "discriminator"):
        for own, other in zip(
            getattr(model, network).parameters(), getattr(ours, network).parameters(), strict=True
        ):
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-6, atol=1e-7)
    # The encoder was read, and nothing was asked of its parameters.
    assert all(p.grad is None for p in model.vae.parameters())


def test_end_to_end_the_encoder_hears_of_the_generators_loss():
    model = toys.end_to_end(gan={"generator_lr": 0.0, "critic_lr": 0.0}, vae=toys.vae(lr=0.0))
    model = model.double()
    ours, data = copy.deepcopy(model), conditional_toys.batch(toys.BATCH)
    x = data["image"] = data["image"].double()
    torch.manual_seed(3)
    toys.prepared(model).step(data)

    torch.manual_seed(3)
    q = ours.vae.posterior(x)
    c = q.draw()
    _, again = (torch.randn(toys.BATCH, toys.NUISANCE, dtype=c.dtype) for _ in range(2))
    fakes = ours.generator(again, c)
    read = Gaussian(*copy.deepcopy(ours.vae).encoder((fakes + 1) / 2).chunk(2, dim=1))
    generator = F.softplus(-ours.discriminator(fakes)[0]).mean() + 0.1 * code_cost(c, read)
    rebuilt = F.binary_cross_entropy_with_logits(ours.vae.decoder(c), x, reduction="sum")
    loss = rebuilt / len(x) + ours.vae.penalty(q, c, 0).loss + generator
    torch.autograd.backward(loss, inputs=[*ours.vae.parameters()])
    for own, other in zip(model.vae.parameters(), ours.vae.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-6, atol=1e-7)


def test_the_critic_and_the_generator_learn_of_the_same_c_and_of_other_s():
    model, drawn = toys.id_gan(), []
    model.generator.register_forward_pre_hook(lambda _, inputs: drawn.append(inputs))
    toys.prepared(model).step(conditional_toys.batch(toys.BATCH))
    (s, c), (new_s, same_c) = drawn
    assert torch.equal(c, same_c)
    assert not torch.equal(s, new_s)
    assert c.std(dim=0).min() > 0


@pytest.mark.parametrize("codes_from", ["aggregated", "prior"])
def test_codes_come_from_the_posterior_or_from_the_prior(codes_from):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 2 * toys.CODES))
    nn.init.zeros_(encoder[1].weight)
    with torch.no_grad():  # q(c | x) = N(7, e^-20)
        encoder[1].bias.copy_(torch.tensor([7.0] * toys.CODES + [-20.0] * toys.CODES))
    model = toys.id_gan(codes_from=codes_from, vae=toys.vae(encoder=encoder))
    c = toys.prepared(model).codes(torch.zeros(500, *toys.SHAPE))
    wanted = 7.0 if codes_from == "aggregated" else 0.0
    assert c.mean().item() == pytest.approx(wanted, abs=0.1)


def test_without_distillation_the_encoder_is_not_asked():
    model = toys.id_gan(distillation_weight=0.0)
    logs = toys.prepared(model).step(conditional_toys.batch(toys.BATCH))
    assert "loss/distillation" not in logs
    assert {"loss/generator", "loss/real", "loss/fake", "loss/r1"} == set(logs)


def test_the_cgans_critic_reads_c_of_real_and_of_generated_images():
    model, told = toys.latent_cgan(), []
    model.discriminator.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    toys.prepared(model).step(conditional_toys.batch(toys.BATCH))
    assert len(told) == 3
    assert all(torch.equal(c, told[0]) for c in told)


def test_the_mean_of_the_generator_follows_it_and_draws():
    model = toys.gan(averaging=0.9)
    stage, before = toys.prepared(model), copy.deepcopy(model.generator)
    stage.step(conditional_toys.batch(toys.BATCH))
    for mean, old, new in zip(
        model.average.parameters(), before.parameters(), model.generator.parameters(), strict=True
    ):
        torch.testing.assert_close(mean.detach(), (0.9 * old + 0.1 * new).detach())
    c = torch.randn(4, toys.CODES)
    images = model.generate(c)
    torch.testing.assert_close(images, (model.average(torch.zeros(4, 0), c) + 1) / 2)
    assert 0 <= images.min() <= images.max() <= 1


def test_the_bottlenecks_weight_rises_while_too_much_passes_and_never_falls_below_zero():
    weight = BottleneckWeight(
        GanSettings(bottleneck_nats=0.5, bottleneck_rate=0.1, bottleneck_weight=0.02)
    )
    weight.adapt(torch.tensor(1.5))
    assert weight.value.item() == pytest.approx(0.12)
    for _ in range(3):
        weight.adapt(torch.tensor(0.0))
    assert weight.value.item() == 0.0
    model = toys.limited()
    logs = toys.prepared(model).step(conditional_toys.batch(toys.BATCH))
    assert logs["weight/bottleneck"].item() == pytest.approx(0.1)


def test_real_images_are_mirrored_and_noisy():
    stage = toys.prepared(toys.gan(flip=True, image_noise=0.25))
    images = torch.rand(64, *toys.SHAPE)
    torch.manual_seed(0)
    x, plain = stage.real(images), to_generated(images)
    noise = torch.stack([x - plain, x - plain.flip(3)])  # (2, N, C, H, W)
    fits = ((noise >= -1e-6) & (noise <= 0.25 + 1e-6)).flatten(2).all(dim=2)
    assert fits.any(dim=0).all()
    assert 16 < fits[1].sum() < 48


def test_codes_are_read_by_the_encoder_and_drawn_with_one_nuisance():
    model, images = toys.id_gan().eval(), conditional_toys.batch(4)["image"]
    label, c = model.encode(images)
    assert label.shape == (4, 0)
    torch.testing.assert_close(c, model.vae.posterior(images).mean)
    both = model.decode(Codes(label[:2], c[:1].expand(2, -1)))
    assert torch.equal(both[0], both[1])
    first, second = (
        model.sample(3, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, model.sample(3))


def test_larger_images_are_reduced_for_the_encoder_in_both_stages():
    model = toys.id_gan(vae=toys.vae(side=6), downsampling="average")
    images = conditional_toys.batch(toys.BATCH)["image"]
    small = F.avg_pool2d(images, 2)
    torch.testing.assert_close(model.posterior(images).mean, model.vae.posterior(small).mean)
    first, second = model.stages()
    assert first.place({"image": images})["image"].shape[-1] == 6
    assert second.place({"image": images})["image"].shape[-1] == 12
    bilinear = shrink(images, 6, how="bilinear")
    torch.testing.assert_close(bilinear, small)  # at half the size the two are one


def test_a_collapsed_encoder_is_named_before_the_generator_learns():
    data = conditional_toys.batch(toys.BATCH)
    plain = toys.vae()
    for parameter in plain.encoder.parameters():
        nn.init.zeros_(parameter)
    with pytest.warns(UserWarning, match=r"BetaVAE tells nothing .* all 3 dimensions"):
        toys.prepared(toys.id_gan(vae=plain)).step(data)
    nn.init.constant_(plain.encoder[1].bias, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        toys.prepared(toys.id_gan(vae=plain)).step(data)


def test_info_gan_reads_its_own_codes_with_fixed_or_learned_deviations():
    images = conditional_toys.batch(4)["image"]
    assert toys.info_gan().posterior(images).logvar.abs().min() > 0
    assert torch.equal(
        toys.info_gan(fixed_deviation=True).posterior(images).logvar, torch.zeros(4, toys.CODES)
    )


def test_the_adversarial_vae_adds_the_critics_verdict_to_the_vaes_loss():
    model = toys.adversarial_vae(lr=0.0, critic_lr=0.0, gan_weight=2.0).double()
    ours, data = copy.deepcopy(model), conditional_toys.batch(toys.BATCH)
    x = data["image"] = data["image"].double()
    torch.manual_seed(3)
    toys.prepared(model).step(data)
    torch.manual_seed(3)
    q = ours.posterior(x)
    c = q.draw()
    output = ours.decoder(c)
    judged = ours.discriminator(2 * torch.sigmoid(output) - 1)[0]
    rebuilt = F.binary_cross_entropy_with_logits(output, x, reduction="sum") / len(x)
    loss = rebuilt + ours.penalty(q, c, 0).loss + 2 * F.softplus(-judged).mean()
    networks = (ours.encoder, ours.decoder)
    torch.autograd.backward(loss, inputs=[p for n in networks for p in n.parameters()])
    for own, other in zip(model.encoder.parameters(), ours.encoder.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toys.id_gan(latent_dim=4), r"BetaVAE gives 3 numbers .* latent_dim 4"),
        (lambda: toys.id_gan(image_shape=(1, 10, 10), vae=toys.vae(side=6)), "cannot be reduced"),
        (lambda: toys.id_gan(vae=toys.vae(side=24)), "cannot be reduced"),
        (lambda: toys.id_gan(image_shape=(3, 12, 12)), "as many channels"),
        (lambda: toys.id_gan(vae=toys.gan()), "GAN has no encoder of its own"),
        (lambda: toys.id_gan(vae=toys.id_gan()), "IDGAN has no encoder of its own"),
        (lambda: toys.end_to_end(codes_from="prior"), "leave start_from and codes_from out"),
        (
            lambda: IDGAN(
                image_shape=(1, 32, 32),
                end_to_end=True,
                vae=FactorVAE(image_shape=(1, 32, 32), critic_width=8),
            ),
            "FactorVAE is trained in updates of its own",
        ),
        (lambda: toys.id_gan(downsampling="nearest"), "downsampling must be one of"),
        (lambda: toys.id_gan(distillation_weight=-1.0), "distillation_weight must be 0 or more"),
        (lambda: toys.make(InfoGAN, reader=None), "needs a reader of your own"),
        (lambda: toys.info_gan(gan={"bottleneck_nats": 0.1}), "which a bottleneck makes noisy"),
        (lambda: GanSettings(averaging=1.0), r"averaging must lie in \[0, 1\)"),
        (lambda: GanSettings(architecture="dcgan"), "architecture must be one of"),
        (lambda: GanSettings(r1_weight=-1.0), "r1_weight must be 0 or more"),
        (lambda: AdversarialVAE(critic_architecture="x"), "critic_architecture must be one of"),
        (
            lambda: LatentCGAN(image_shape=(1, 64, 64), gan=GanSettings(bottleneck_nats=0.1)),
            "no maps that a bottleneck could limit",
        ),
    ],
)
def test_wrong_arguments_are_one_line(call, message):
    with pytest.raises(UserError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
