"""Projection cGAN: its conditional norm, its two costs, and how often who learns."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from dcorr_models.errors import UserError
from dcorr_models.methods import Codes, ProjectionCGAN
from dcorr_models.nets.projection_cgan import (
    ARCHITECTURES,
    ClassBatchNorm,
    ResNetCritic,
    ResNetGenerator,
)
from tests.dcorr_models.methods import conditional_toys as toys


def toy(*, norm: bool = False, **options) -> ProjectionCGAN:
    torch.manual_seed(options.get("seed", 0))
    nets = {
        "noise_dim": toys.LATENT,
        "batch_size": 8,
        "generator_batch_size": 12,
        "critic_steps": 3,
        "lr_decay_steps": 0,
        "generator": toys.LabelledNet(toys.LATENT + toys.CLASSES, 144, norm=norm, image=True),
        "discriminator": toys.Judge(1, labels=toys.CLASSES),
    }
    return toys.toy(ProjectionCGAN, **(nets | options))


def test_class_batch_norm_is_batch_norm_with_the_classes_gains():
    torch.manual_seed(0)
    norm, maps, labels = ClassBatchNorm(3, 2), torch.randn(6, 3, 4, 4), torch.arange(6) % 2
    plain = F.batch_norm(maps, None, None, training=True, eps=2e-5)
    torch.testing.assert_close(norm(maps, labels), plain)
    with torch.no_grad():
        norm.gain.weight.normal_()
        norm.bias.weight.normal_()
    wanted = torch.stack(
        [
            plain[i] * norm.gain.weight[k][:, None, None] + norm.bias.weight[k][:, None, None]
            for i, k in enumerate(labels.tolist())
        ]
    )
    torch.testing.assert_close(norm(maps, labels), wanted)


def test_costs_and_first_gradients_are_those_of_the_formulas():
    model, data = toy(critic_steps=1, lr=0.0), toys.batch(8)
    ours = copy.deepcopy(model)
    torch.manual_seed(3)
    logs = toys.prepared(model).step(data)
    torch.manual_seed(3)
    classes, z = torch.randint(0, 4, (12,)), torch.randn(12, toys.LATENT)
    cost = -ours.discriminator(ours.generator(z, classes), classes)[0].mean()
    torch.autograd.backward(cost, inputs=list(ours.generator.parameters()))
    classes, z = torch.randint(0, 4, (8,)), torch.randn(8, toys.LATENT)
    fakes = ours.generator(z, classes).detach()
    real = (1 - ours.discriminator(data["image"], data["label"])[0]).clamp(min=0).mean()
    fake = (1 + ours.discriminator(fakes, classes)[0]).clamp(min=0).mean()
    torch.autograd.backward(real + fake, inputs=list(ours.discriminator.parameters()))
    for name, value in {"generator": cost, "real": real, "fake": fake}.items():
        torch.testing.assert_close(logs[f"loss/{name}"], value.detach())
    reference = dict(ours.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, reference[name].grad)


def test_the_log_loss_is_the_other_choice():
    model, data = toy(critic_steps=1, lr=0.0, loss="log"), toys.batch(8)
    logs = toys.prepared(model).step(data)
    real = F.softplus(-model.discriminator(data["image"], data["label"])[0]).mean()
    torch.testing.assert_close(logs["loss/real"], real.detach())


@pytest.mark.parametrize(
    ("player", "networks"),
    [
        ("generator", {"generator"}),
        ("discriminator", {"discriminator"}),
        (None, {"generator", "discriminator"}),
    ],
)
def test_each_network_moves_under_its_own_loss_alone(player, networks):
    assert toys.moved_by(toy, player) == networks


def test_the_generator_learns_once_then_the_critic_on_images_of_its_own():
    stage, order, seen = toys.prepared(toy()), [], []
    update, generate = stage.update, stage._update_critic
    stage.update = lambda name, loss, **rest: (order.append(name), update(name, loss, **rest))
    stage._update_critic = lambda x, y: (seen.append(x), generate(x, y))[1]
    data = toys.batch(stage.batch_size)
    assert stage.batch_size == 24
    stage.step(data)
    assert order == ["generator", *3 * ["discriminator"]]
    assert torch.equal(torch.cat(seen), data["image"])


@pytest.mark.parametrize(
    ("steps", "factors"),
    [(0, [1, 1, 1, 1]), (None, [1, 0.5, 0.1, 0]), (10, [1, 0.5, 0.1, 0]), (5, [1, 1, 0.2, 0])],
)
def test_the_rate_falls_in_a_line_to_zero(steps, factors):
    schedule = toy(lr_decay_steps=steps).schedule
    assert [schedule.factor(step) for step in (0, 5, 9, 10)] == pytest.approx(factors)


def test_it_has_no_codes_and_says_so():
    model, images = toy(), toys.batch(2)["image"]
    assert not model.has_encoder
    for call in (
        lambda: model.encode(images),
        lambda: model.decode(Codes(torch.zeros(2, 4), torch.zeros(2, 3))),
        lambda: model(images),
    ):
        with pytest.raises(UserError, match="has no encoder"):
            call()


def test_samples_depend_on_labels_and_generator_alone():
    model, labels = toy().eval(), torch.tensor([0, 3, 3])
    seeded = [model.sample(labels, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*seeded)
    assert not torch.equal(model.sample(labels), seeded[0])
    with pytest.raises(UserError, match="got 4"):
        model.sample(torch.tensor([4]))


def test_resume_is_exact(tmp_path):
    toys.check_resume(lambda seed: toy(seed=seed, norm=True, lr_decay_steps=8), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"critic_steps": 0}, "critic_steps must be 1 or more, got 0"),
        ({"generator_batch_size": 1}, "generator_batch_size must be 2 or more, got 1"),
        ({"lr_decay_steps": 11}, r"lr_decay_steps must lie between 0 and steps \(10\), got 11"),
        ({"loss": "wasserstein"}, "loss must be one of hinge, log, got 'wasserstein'"),
        ({"architecture": "toy"}, "architecture must be one of .*got 'toy'"),
        ({"generator": None}, r"image_shape \(1, 12, 12\) does not fit this architecture"),
        ({"discriminator": None}, r"image_shape \(1, 12, 12\) does not fit this architecture"),
    ],
)
def test_wrong_arguments_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        toy(**options)
    assert "\n" not in str(error.value)


def conv(a: int, b: int, side: int = 3) -> int:
    return a * b * side * side + b


def test_published_sizes():
    """CIFAR-10: 256 channels throughout in the generator, 128 in the critic, counted by hand."""
    generator = ResNetGenerator((3, 32, 32), ARCHITECTURES["cifar10"], 128, 10)
    critic = ResNetCritic((3, 32, 32), ARCHITECTURES["cifar10"], 10)
    block = 2 * conv(256, 256) + conv(256, 256, 1) + 2 * 2 * 10 * 256
    wanted = (128 + 1) * 256 * 16 + 3 * block + 2 * 256 + conv(256, 3)
    assert sum(p.numel() for p in generator.parameters()) == wanted == 4_304_387
    first = conv(3, 128) + conv(128, 128) + conv(3, 128, 1)
    wanted = first + 6 * conv(128, 128) + conv(128, 128, 1) + 128 + 10 * 128
    assert sum(p.numel() for p in critic.parameters()) == wanted == 1_055_104


@pytest.mark.parametrize("name", ["cifar10", "mnist_small"])
def test_networks_judge_what_they_draw(name):
    sizes = ARCHITECTURES[name]
    shape = (1 if name == "mnist_small" else 3, sizes.side, sizes.side)
    narrow = {"architecture": name, "image_shape": shape, "num_labels": 3, "noise_dim": 4}
    torch.manual_seed(0)
    model = ProjectionCGAN(**narrow, steps=2).eval()
    with torch.no_grad():
        labels = torch.tensor([0, 2])
        images = model.sample(labels)
        logits = model.discriminator(images, labels)[0]
        others = model.discriminator(images, labels.flip(0))[0]
    low, high = model.value_range
    assert images.shape == (2, *shape)
    assert low <= images.min() <= images.max() <= high
    assert logits.shape == (2,)
    assert not torch.equal(logits, others), "the critic reads the class"
