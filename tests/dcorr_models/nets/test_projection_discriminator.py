"""The projection discriminator: its formula, images without a class, and spectral norm."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dcorr_models.nets.projection_discriminator import (
    CriticArchitecture,
    ProjectionDiscriminator,
    spectral_norm,
)

SIZES = CriticArchitecture(convolutions=((4, 2), (6, 1)), dense=(5,))


def discriminator() -> ProjectionDiscriminator:
    torch.manual_seed(0)
    return ProjectionDiscriminator((1, 8, 8), SIZES, num_classes=3)


def test_logit_is_its_formula():
    net, labels = discriminator().eval(), torch.tensor([2, 0, 2, 1])
    images = torch.randn(4, 1, 8, 8)
    logits, features = net(images, labels)
    for row, label in enumerate(labels.tolist()):
        weight = net.logit.weight[0] + net.embedding.weight[label]
        wanted = (weight * features[row]).sum() + net.logit.bias[0]
        torch.testing.assert_close(logits[row], wanted)


def test_an_image_without_a_class_has_no_projection():
    net, images = discriminator().eval(), torch.randn(3, 1, 8, 8)
    logits, features = net(images, torch.tensor([-1, -1, 1]))
    torch.testing.assert_close(logits[:2], net.logit(features)[:2, 0])
    assert not torch.allclose(logits[2], net.logit(features)[2, 0])
    logits[:2].sum().backward()
    weight = net.embedding.parametrizations.weight.original
    assert weight.grad is None or not weight.grad.any()


def test_points_have_dense_layers_alone():
    net = ProjectionDiscriminator((2, 1, 1), CriticArchitecture((), (8, 4)), num_classes=3)
    assert net(torch.randn(5, 2, 1, 1), torch.zeros(5, dtype=torch.int64)).features.shape == (5, 4)


def test_all_weights_tend_to_spectral_norm_one():
    net = discriminator()
    for _ in range(200):
        net(torch.zeros(1, 1, 8, 8), torch.tensor([0]))
    layers = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
    assert len(layers) == 5
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert largest.item() == pytest.approx(1, abs=1e-3)


def test_one_power_iteration_a_training_pass_and_none_in_evaluation():
    layer = spectral_norm(nn.Linear(7, 5)).train()
    plain = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(7, 5)).train()
    for source, target in zip(
        layer.state_dict().values(), plain.state_dict().values(), strict=True
    ):
        target.copy_(source)
    x = torch.randn(2, 7)
    for _ in range(3):
        torch.testing.assert_close(layer(x), plain(x))
    before = copy.deepcopy(layer.eval().state_dict())
    layer(x)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())


def test_the_norm_is_not_rounded_under_autocast():
    layer, seen = spectral_norm(nn.Linear(64, 64)).eval(), []
    exact = layer.weight.detach()
    layer.register_forward_pre_hook(lambda module, _: seen.append(module.weight.detach()))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(2, 64)).dtype == torch.bfloat16
    assert torch.equal(seen[0], exact)
