"""ML-VAE: the product of a group's Gaussians against loops, and the bound against densities."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dcorr_models.errors import UserError
from dcorr_models.methods import MLVAE
from dcorr_models.methods.base import Codes
from dcorr_models.methods.ml_vae import group_posterior
from tests.dcorr_models.methods.rival_toys import (
    BATCH,
    CLASS_DIM,
    CONTENT_DIM,
    DenseToyDecoder,
    batch,
    check_resume,
    dense_encoder,
    moved,
    prepared,
    snapshot,
    toy_rival,
    trained,
)
from tests.dcorr_models.toy import ToyContents

SIZE = 4


def toy(*, seed: int = 0, **options) -> MLVAE:
    torch.manual_seed(seed)
    settings: dict = {
        "images_per_class": SIZE,
        "encoder": dense_encoder(2 * (CLASS_DIM + CONTENT_DIM)),
        "decoder": DenseToyDecoder(2),
    }
    return toy_rival(MLVAE, seed=seed, **(settings | options))


def product_by_loops(mean: Tensor, log_variance: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Densities multiplied one after the other."""
    means, variances = [], []
    for first in range(0, len(mean), size):
        mu, variance = mean[first], log_variance[first].exp()
        for row in range(first + 1, first + size):
            other = log_variance[row].exp()
            mu = (mu * other + mean[row] * variance) / (variance + other)
            variance = variance * other / (variance + other)
        means.append(mu)
        variances.append(variance)
    return torch.stack(means), torch.stack(variances).log()


@pytest.mark.parametrize("size", [1, 3, 6])
def test_group_posterior_is_the_product_of_densities(size):
    torch.manual_seed(0)
    mean, log_variance = torch.randn(6, 5).double(), 3 * torch.randn(6, 5).double()
    for got, wanted in zip(
        group_posterior(mean, log_variance, size),
        product_by_loops(mean, log_variance, size),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)
    inputs = (mean.requires_grad_(), log_variance.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, v: group_posterior(m, v, size), inputs)


def test_group_posterior_of_far_apart_variances_is_finite():
    mean = torch.tensor([[1.0], [2.0]], requires_grad=True)
    log_variance = torch.tensor([[-200.0], [200.0]], requires_grad=True)
    mu, variance = group_posterior(mean, log_variance, 2)
    assert (mu.item(), variance.item()) == (1.0, -200.0)
    (mu + variance).sum().backward()
    assert torch.isfinite(log_variance.grad).all()


def reference(model: MLVAE, data: dict[str, Tensor], noise: Tensor, *, one: bool) -> dict:
    """The negative bound of a group by torch's distributions, in float64."""
    model, x = copy.deepcopy(model).double(), data["image"].double()
    k, z = CLASS_DIM, CONTENT_DIM
    numbers = model.encoder(x)
    own_mean, own_lv = numbers[:, :k], numbers[:, k : 2 * k]
    content = Normal(numbers[:, 2 * k : 2 * k + z], (numbers[:, 2 * k + z :] / 2).exp())
    mean, lv = product_by_loops(own_mean, own_lv, SIZE)
    group = Normal(mean, (lv / 2).exp())
    of_group = [row // SIZE for row in range(BATCH)]
    class_noise, content_noise = noise[: -BATCH * z].reshape(-1, k), noise[-BATCH * z :]
    rows = of_group if one else range(BATCH)
    class_code = torch.stack(
        [mean[g] + group.scale[g] * class_noise[r] for g, r in zip(of_group, rows, strict=True)]
    )
    content_code = content.loc + content.scale * content_noise.reshape(BATCH, z)
    image, lv = model.decoder(class_code, content_code).chunk(2, dim=1)
    prior = Normal(torch.zeros(()).double(), torch.ones(()).double())
    groups = BATCH // SIZE
    terms = {
        "reconstruction": -Normal(image, (lv / 2).exp()).log_prob(x).sum() / groups,
        "kl_content": kl_divergence(content, prior).sum() / groups,
        "kl_class": kl_divergence(group, prior).sum() / groups,
    }
    names = [name for name, _ in model.named_parameters()]
    found = torch.autograd.grad(sum(terms.values()), list(model.parameters()))
    return terms | {"gradients": dict(zip(names, found, strict=True))}


@pytest.mark.parametrize("class_noise", ["per_image", "per_group"])
def test_losses_and_gradients_are_those_of_the_bound(class_noise):
    model, data, one = toy(class_noise=class_noise), batch(SIZE), class_noise == "per_group"
    stage = prepared(model)
    draws = (BATCH // SIZE if one else BATCH) * CLASS_DIM
    torch.manual_seed(3)
    noise = torch.cat([torch.randn(draws), torch.randn(BATCH * CONTENT_DIM)]).double()
    wanted = reference(model, data, noise, one=one)
    torch.manual_seed(3)
    logs = stage.step(data)
    for name in ("reconstruction", "kl_content", "kl_class"):
        assert logs[f"loss/{name}"].item() == pytest.approx(wanted[name].item(), rel=1e-4)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), wanted["gradients"][name], rtol=2e-3, atol=2e-4
        )


def test_reconstruction_reaches_the_class_head_through_the_product():
    """Third-party code cuts it off there."""
    model = toy(kl_weight=0.0)
    prepared(model).step(batch(SIZE))
    head = model.encoder[-1].weight.grad
    mean, log_variance = head[:CLASS_DIM], head[CLASS_DIM : 2 * CLASS_DIM]
    assert mean.abs().max() > 0
    assert log_variance.abs().max() > 0


def test_every_image_of_a_group_moves_its_class_code():
    model, images = toy(), batch(SIZE)["image"][:SIZE].requires_grad_()
    model.class_code_of(images).sum().backward()
    assert (images.grad.flatten(1).abs().amax(1) > 0).all()
    assert model.class_code_of(images).shape == (1, CLASS_DIM)
    torch.testing.assert_close(model.class_code_of(images[:1]), model.encode(images[:1]).label)


@pytest.mark.parametrize(
    ("weights", "still"),
    [({"kl_weight": 0.0}, set()), ({"reconstruction_weight": 0.0}, {"decoder"})],
)
def test_who_learns_from_which_term(weights, still):
    model = toy(**weights)
    before = snapshot(model)
    prepared(model).step(batch(SIZE))
    learned = {k for k, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"encoder", "decoder"} - {k.split(".")[0] for k in learned} == still
    assert moved(model, before) == {"encoder", "decoder"} - still


def test_one_update_is_adams_with_the_stated_rates():
    model = toy()
    stage, before = prepared(model), snapshot(model)
    stage.step(batch(SIZE))
    for name, p in model.named_parameters():
        step = 1e-2 * p.grad / (p.grad.abs() + 1e-8)
        torch.testing.assert_close(p, before[name] - step, rtol=1e-4, atol=1e-6)
    assert stage.optimizers["autoencoder"].param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(("name", "power"), [("l1", 1), ("mse", 2)])
def test_other_errors_are_summed_over_an_image(name, power):
    model = toy(reconstruction=name, decoder=DenseToyDecoder())
    assert model.step_settings.weights["reconstruction"] == 144
    stage, data, seen = prepared(model), batch(SIZE), []
    model.decoder.register_forward_hook(lambda *args: seen.append(args[-1].detach()))
    got = stage.step(data)["loss/reconstruction"].item()
    wanted = SIZE * (seen[0] - data["image"]).abs().pow(power).mean().item()
    assert got == pytest.approx(wanted, rel=1e-5)


def test_a_decoder_without_variances_has_variance_one():
    model = toy(decoder=DenseToyDecoder())
    stage, data, seen = prepared(model), batch(SIZE), []
    model.decoder.register_forward_hook(lambda *args: seen.append(args[-1].detach()))
    got = stage.step(data)["loss/reconstruction"].item()
    squares = (seen[0] - data["image"]).square().sum().item() / BATCH
    assert got == pytest.approx(SIZE * 0.5 * (144 * math.log(2 * math.pi) + squares), rel=1e-5)


def test_ten_steps_equal_five_saved_loaded_and_five_more(tmp_path):
    check_resume(toy, tmp_path)


def test_toy_training_puts_the_class_into_the_class_code(tmp_path):
    model = trained(toy(reconstruction="mse", decoder=DenseToyDecoder()), tmp_path, steps=200)
    data = ToyContents().splits().test
    with torch.no_grad():
        codes = model.eval().encode(data.tensors()[0])
        error = (model.decode(codes) - data.tensors()[0]).square().mean()
    between = torch.stack([codes.label[data.labels == k].mean(0) for k in range(8)]).var(0)
    within = torch.stack([codes.label[data.labels == k].var(0) for k in range(8)]).mean(0)
    # 1 / 4 for a code that knows nothing of the class: four images a class
    assert (between / within).max() > 4
    assert error < 0.5 * data.tensors()[0].sub(data.tensors()[0].mean(0)).square().mean()


def test_the_published_networks_and_lords():
    model = MLVAE()
    counts = [sum(p.numel() for p in n.parameters()) for n in (model.encoder, model.decoder)]
    assert counts == [784 * 500 + 500 + 501 * 40, 21 * 500 + 2 * 501 * 784]
    model = MLVAE(architecture="sprites_small", image_shape=(3, 32, 32), class_dim=8)
    images = torch.rand(2, 3, 32, 32)
    codes = model.encode(images)
    assert (codes.label.shape, codes.residual.shape) == ((2, 8), (2, 10))
    assert model.decode(codes).shape == images.shape
    variances = model.decoder(*codes)[:, 3:]
    assert variances.min() > -1
    assert variances.max() < 1
    mean, log_variance = model.posterior(images)
    assert torch.equal(mean, codes.residual)
    assert log_variance.shape == (2, 10)
    assert model.class_vectors() is None
    plain = MLVAE(architecture="sprites_small", image_shape=(3, 32, 32), reconstruction="l1")
    assert plain.decoder(*plain.encode(images)).shape == images.shape


def test_bfloat16_autocast_trains_every_parameter():
    model = toy()
    before = snapshot(model)
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step(batch(SIZE))
    assert all(torch.isfinite(value) for value in logs.values())
    assert all(not torch.equal(p, before[k]) for k, p in model.named_parameters())


SHARED = dense_encoder(10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"architecture": "lord"}, "architecture must be one of published, lord64"),
        ({"class_noise": "none"}, "class_noise must be one of per_image, per_group"),
        ({"architecture": "lord64"}, "its images have 64 x 64 pixels"),
        ({"images_per_class": 0}, "images_per_class must be 1 or more"),
        ({"batch_size": 100}, r"multiple of images_per_class \(32\), got 100"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers"),
        ({"reconstruction": "psnr"}, "reconstruction must be one of published, l1"),
        ({"kl_weight": -1.0}, "kl_weight must be 0 or more"),
        ({"encoder": SHARED, "decoder": nn.Sequential(SHARED)}, "share parameters"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        MLVAE(**options)


def test_images_and_codes_go_through_the_same_interface():
    model = toy().eval()
    codes = model.encode(batch(SIZE)["image"])
    assert isinstance(codes, Codes)
    assert model.decode(codes).shape == (BATCH, 1, 12, 12), "without the log-variances"
    assert model.probes_read_samples
