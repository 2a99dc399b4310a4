"""Cycle-VAE: both cycles against the published losses, and who learns in which."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods import CycleVAE
from dcorr_models.methods.cycle_vae import partners
from tests.dcorr_models.methods.rival_toys import (
    BATCH,
    CLASS_DIM,
    CONTENT_DIM,
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

PAIRS = BATCH // 2


def toy(*, seed: int = 0, **options) -> CycleVAE:
    torch.manual_seed(seed)
    settings: dict = {"encoder": dense_encoder(CLASS_DIM + 2 * CONTENT_DIM)}
    return toy_rival(CycleVAE, seed=seed, **(settings | options))


def drawn(*counts: int) -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(count, CONTENT_DIM).double() for count in counts]


def forward_cycle(model: CycleVAE, x: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """Image by image: its own content, the class of its partner, as published for pairs."""
    k, z = CLASS_DIM, CONTENT_DIM
    numbers, rebuilt, kl = model.encoder(x), torch.zeros(()).double(), torch.zeros(()).double()
    for i in range(BATCH):
        partner = i + 1 if i % 2 == 0 else i - 1
        mean, lv = numbers[i, k : k + z], numbers[i, k + z :]
        content = mean + (lv / 2).exp() * noise[i]
        x_hat = model.decoder(numbers[partner, :k][None], content[None])
        # the mean over the pairs, added up over both images of a pair
        rebuilt = rebuilt + (x_hat - x[i]).square().mean() / PAIRS
        kl = kl - 0.5 * (1 + lv - mean.square() - lv.exp()).sum() / (PAIRS * 144)
    return {"reconstruction": rebuilt, "kl": kl}


def reverse_cycle(model: CycleVAE, x: Tensor, content: Tensor) -> Tensor:
    """With the whole graph; the class codes alone are cut off, as published."""
    k, z = CLASS_DIM, CONTENT_DIM
    class_code = model.encoder(x[::2])[:, :k].detach()
    total = torch.zeros(()).double()
    for p in range(PAIRS):
        codes = [class_code[p], class_code[p - 1]]
        first, second = (
            model.encoder(model.decoder(c[None], content[p][None]))[0, k : k + z] for c in codes
        )
        total = total + (first - second).abs().sum() / (PAIRS * z)
    return total


def doubled(model: CycleVAE) -> CycleVAE:
    return copy.deepcopy(model).double()


def test_forward_cycle_is_the_published_loss():
    model = toy(reverse_weight=0.0, lr=0.0)
    stage, data, x = prepared(model), batch(2), batch(2)["image"].double()
    (noise, _) = drawn(BATCH, PAIRS)
    twin = doubled(model)
    wanted = forward_cycle(twin, x, noise)
    (2 * wanted["reconstruction"] + 3 * wanted["kl"]).backward()
    gradients = {}

    def keep(*_: object) -> None:
        found = {k: None if p.grad is None else p.grad.clone() for k, p in model.named_parameters()}
        gradients.setdefault("first", found)

    stage.optimizers["autoencoder"].register_step_pre_hook(keep)
    torch.manual_seed(3)
    logs = stage.step(data)
    for name in ("reconstruction", "kl"):
        assert logs[f"loss/{name}"].item() == pytest.approx(wanted[name].item(), rel=1e-4)
    for name, parameter in twin.named_parameters():
        got = gradients["first"][name].double()
        torch.testing.assert_close(got, parameter.grad, rtol=2e-3, atol=1e-6)


def test_reverse_cycle_is_the_published_loss_for_the_encoder():
    """Gradients through the whole graph are the same: the cut images do not hang on the encoder."""
    model = toy(lr=0.0)
    stage, data, x = prepared(model), batch(2), batch(2)["image"].double()
    _, content = drawn(BATCH, PAIRS)
    twin = doubled(model)
    wanted = reverse_cycle(twin, x, content)
    (10 * wanted).backward()
    torch.manual_seed(3)
    logs = stage.step(data)
    assert logs["loss/reverse"].item() == pytest.approx(wanted.item(), rel=1e-4)
    for own, other in zip(model.encoder.parameters(), twin.encoder.parameters(), strict=True):
        torch.testing.assert_close(own.grad.double(), other.grad, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("weights", "learning"),
    [
        ({"reverse_weight": 0.0}, {"encoder", "decoder"}),
        ({"reverse_weight": 0.0, "reconstruction_weight": 0.0}, {"encoder"}),
        ({"reconstruction_weight": 0.0, "kl_weight": 0.0}, {"encoder"}),
    ],
)
def test_the_decoder_learns_from_reconstructions_alone(weights, learning):
    model = toy(**weights)
    before = snapshot(model)
    prepared(model).step(batch(2))
    assert moved(model, before) == learning


@pytest.mark.parametrize(
    ("weights", "columns"),
    [
        ({"reverse_weight": 0.0, "reconstruction_weight": 0.0}, {"mean", "log_variance"}),
        ({"reconstruction_weight": 0.0, "kl_weight": 0.0}, {"mean"}),
        ({"reverse_weight": 0.0, "kl_weight": 0.0}, {"class", "mean", "log_variance"}),
    ],
)
def test_which_head_learns_from_which_loss(weights, columns):
    model = toy(**weights)
    before = model.encoder[-1].weight.detach().clone()
    prepared(model).step(batch(2))
    change = (model.encoder[-1].weight - before).abs().amax(1)
    heads = dict(zip(("class", "mean", "log_variance"), change.split([3, 2, 2]), strict=True))
    assert {name for name, rows in heads.items() if rows.max() > 0} == columns


def test_the_two_optimizers_have_moments_of_their_own():
    model = toy()
    stage = prepared(model)
    stage.step(batch(2))
    first, second = stage.optimizers["autoencoder"], stage.optimizers["reverse"]
    weight = model.encoder[1].weight
    moments = [o.state[weight]["exp_avg"] for o in (first, second)]
    assert not torch.equal(*moments)
    assert len(second.param_groups[0]["params"]) == len(list(model.encoder.parameters()))


def test_the_rate_falls_at_the_milestones():
    model = toy(lr_milestones=(2,))
    stage = prepared(model)
    rates = []
    for _ in range(3):
        stage.step(batch(2))
        for scheduler in stage.schedulers.values():
            scheduler.step()
        rates.append([o.param_groups[0]["lr"] for o in stage.optimizers.values()])
    assert rates[0] == [1e-2] * 2
    assert rates[1] == pytest.approx([1e-3] * 2)
    assert rates[2] == pytest.approx([1e-3] * 2)


def test_partners_are_of_one_class():
    labels = batch(2)["label"][:, None]
    assert torch.equal(partners(labels), labels)
    rows = torch.arange(BATCH)[:, None]
    assert (partners(rows) - rows).abs().flatten().tolist() == [1] * BATCH


def test_ten_steps_equal_five_saved_loaded_and_five_more(tmp_path):
    check_resume(toy, tmp_path)


def test_toy_training_draws_images_of_another_class(tmp_path):
    model = trained(toy(kl_weight=0.1), tmp_path, steps=200).eval()
    images, labels = ToyContents().splits().test.tensors()
    other = (labels[:, None] != labels).int().argmax(1)
    with torch.no_grad():
        codes, wanted = model.encode(images), images[:, :, 6:]
        swapped = model.decode(codes._replace(label=codes.label[other]))
    level = swapped[:, :, :6].mean((1, 2, 3))
    right = (level - images[other][:, :, :6].mean((1, 2, 3))).abs().mean()
    wrong = (level - images[:, :, :6].mean((1, 2, 3))).abs().mean()
    assert right < wrong, "the class comes with the class code"
    assert (swapped[:, :, 6:] - wanted).square().mean() < 0.7 * wanted.var(0).mean()


def test_the_published_networks_and_lords():
    model = CycleVAE()
    images = torch.rand(2, 1, 28, 28)
    codes = model.encode(images)
    assert (codes.label.shape, codes.residual.shape) == ((2, 16), (2, 16))
    assert model.decode(codes).shape == images.shape
    assert model.encoder[-1].in_features == 256
    assert 0.04 < model.encoder[-1].weight.std() < 0.06
    lord = CycleVAE(architecture="sprites_small", image_shape=(3, 32, 32), class_dim=8)
    images = torch.rand(2, 3, 32, 32)
    codes = lord.encode(images)
    assert codes.label.shape == (2, 8)
    assert lord.decode(codes).shape == images.shape
    mean, log_variance = lord.posterior(images)
    assert torch.equal(mean, codes.residual)
    assert log_variance.shape == mean.shape


def test_bfloat16_autocast_trains_every_parameter():
    model = toy()
    before = snapshot(model)
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step(batch(2))
    assert all(torch.isfinite(value) for value in logs.values())
    assert all(not torch.equal(p, before[k]) for k, p in model.named_parameters())


SHARED = dense_encoder(48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (3, 32, 32)}, "its images have 28 x 28 pixels; take one of lord64"),
        ({"architecture": "sprites_small"}, "its images have 32 x 32 pixels"),
        ({"batch_size": 7}, r"multiple of images_per_class \(2\), got 7"),
        ({"batch_size": 2}, "batch_size must be 4 or more"),
        ({"reverse_weight": -1.0}, "reverse_weight must be 0 or more"),
        ({"reconstruction": "psnr"}, "reconstruction must be one of published, l1"),
        ({"betas": (0.5,)}, "betas must be two numbers"),
        ({"encoder": SHARED, "decoder": nn.Sequential(SHARED)}, "share parameters"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        CycleVAE(**options)
