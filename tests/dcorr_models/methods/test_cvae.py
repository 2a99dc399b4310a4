"""cVAE: its loss against torch's distributions, and how an image without label is encoded."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.distributions import Normal, kl_divergence

from dcorr_models.data import ThreeMoons
from dcorr_models.errors import UserError
from dcorr_models.methods import CVAE
from dcorr_models.methods.base import Codes
from dcorr_models.nets.cvae import ClassEncoder, FeatureClassifier
from dcorr_models.nets.lr_livae import ARCHITECTURES
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods import conditional_toys as toys


def toy(*, norm: bool = False, **options) -> CVAE:
    torch.manual_seed(options.get("seed", 0))
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(144, toys.CLASSES))
    nets = {"latent_dim": toys.LATENT, "classifier": classifier, **toys.conditional_nets(norm=norm)}
    return toys.toy(CVAE, **(nets | options))


def test_losses_and_gradients_are_those_of_the_formula():
    model, data = toy(reconstruction_weight=7.0, kl_weight=2.0), toys.batch()
    ours, x = copy.deepcopy(model).double(), data["image"].double()
    label = F.one_hot(data["label"], toys.CLASSES).double()
    torch.manual_seed(3)
    logs = toys.prepared(model).step(data)
    torch.manual_seed(3)
    noise = torch.randn(toys.BATCH, toys.LATENT).double()
    numbers = ours.encoder(x, label)
    q = Normal(numbers[:, : toys.LATENT], (numbers[:, toys.LATENT :] / 2).exp())
    images = ours.decoder(label, q.loc + q.scale * noise)
    error = ((images - x) ** 2).sum() / (toys.BATCH * 144)
    kl = kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum() / (toys.BATCH * toys.LATENT)
    cross_entropy = -(label * ours.classifier(x).log_softmax(1)).sum() / toys.BATCH
    wanted = {"loss/reconstruction": error, "loss/kl": kl, "loss/class": cross_entropy}
    for name, value in wanted.items():
        assert logs[name].item() == pytest.approx(value.item(), rel=1e-5)
    (7.0 * error + 2.0 * kl + cross_entropy).backward()
    reference = dict(ours.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), reference[name].grad, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(
    ("player", "networks"),
    [("autoencoder", {"encoder", "decoder"}), ("classifier", {"classifier"})],
)
def test_each_network_moves_under_its_own_loss_alone(player, networks):
    assert toys.moved_by(toy, player) == networks
    assert toys.moved_by(toy, None) == {"encoder", "decoder", "classifier"}


def test_an_image_without_label_has_the_class_that_the_classifier_finds():
    model, data = toy().eval(), toys.batch(8)
    found = model.classifier(data["image"]).argmax(dim=1)
    codes = model.encode(data["image"])
    assert codes.label.argmax(dim=1).tolist() == found.tolist()
    assert codes.label.sum(dim=1).tolist() == [1.0] * 8
    told = model.encode(data["image"], (found + 1) % toys.CLASSES)
    assert told.label.argmax(dim=1).tolist() == ((found + 1) % toys.CLASSES).tolist()
    assert not torch.equal(told.residual, codes.residual), "the encoder reads the label"
    assert model.decode(codes).shape == data["image"].shape


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"one label for each of 2 images.*got.*\(3,\)"),
        (torch.zeros(2), "int64 of shape"),
        (torch.tensor([0, 4]), "knows labels 0 to 3, got 4"),
        (torch.tensor([-1, 0]), "got -1: leave labels out"),
    ],
)
def test_encode_refuses_other_labels(labels, message):
    with pytest.raises(UserError, match=message):
        toy().encode(toys.batch(2)["image"], labels)


def test_samples_depend_on_labels_and_generator_alone():
    model, labels = toy().eval(), torch.tensor([0, 3, 3])
    seeded = [model.sample(labels, generator=torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(*seeded)
    z = torch.randn(3, toys.LATENT, generator=torch.Generator().manual_seed(1))
    assert torch.equal(seeded[0], model.decode(Codes(torch.eye(4)[labels], z)))
    codes = model.draw_codes(labels, generator=torch.Generator().manual_seed(1))
    assert torch.equal(codes.label, torch.eye(4)[labels])
    assert torch.equal(codes.residual, z)
    with pytest.raises(UserError, match=r"got 4"):
        model.sample(torch.tensor([4]))


def test_resume_is_exact(tmp_path):
    toys.check_resume(lambda seed: toy(seed=seed, norm=True), tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim must be 1 or more, got 0"),
        ({"kl_weight": -1.0}, "kl_weight must be 0 or more"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight must be 0 or more, got nan"),
        ({"architecture": "vgg"}, "architecture must be one of .*'vgg'"),
        ({"betas": (0.5, 1.0)}, "betas must be"),
        ({"encoder": None}, r"image_shape \(1, 12, 12\) does not fit the architecture"),
    ],
)
def test_wrong_arguments_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        toy(**options)
    assert "\n" not in str(error.value)


def test_networks_of_two_players_may_not_share_parameters():
    nets = toys.conditional_nets()
    with pytest.raises(UserError, match="share parameters"):
        toy(classifier=nn.Sequential(nets["encoder"]), **nets)


def test_the_encoder_reads_the_label_as_maps():
    net = ClassEncoder((1, 28, 28), ARCHITECTURES["mnist_small"], 5, num_labels=3).eval()
    images, labels = torch.rand(2, 1, 28, 28), torch.eye(3)[[0, 2]]
    maps = labels[:, :, None, None] * torch.ones(2, 3, 28, 28)
    assert torch.equal(net(images, labels), net.network(torch.cat([images, maps], dim=1)))


def test_features_are_what_the_classifier_decides_by():
    net = FeatureClassifier((1, 28, 28), ARCHITECTURES["mnist_small"], num_labels=3).eval()
    judged = net(torch.rand(2, 1, 28, 28))
    torch.testing.assert_close(judged.logits, net.head(judged.features))


@pytest.mark.parametrize("name", ["cifar10", "mnist", "mnist_small", "toy"])
def test_architectures_make_images(name):
    side = ARCHITECTURES[name].side
    shape = (2, 1, 1) if name == "toy" else (3, side, side)
    model = CVAE(architecture=name, image_shape=shape, num_labels=3, latent_dim=2).eval()
    images = torch.rand(2, *shape)
    assert model(images).shape == model.sample(torch.tensor([0, 2])).shape == images.shape
    assert model.encode(images).residual.shape == (2, 2)


def test_it_learns_the_moons(tmp_path):
    torch.manual_seed(0)
    model = CVAE(
        architecture="toy", image_shape=(2, 1, 1), num_labels=3, latent_dim=2, steps=300, lr=5e-3
    )
    train = ThreeMoons(train=900, valid=30, test=90).splits().train
    (stage,) = model.stages()
    fabric = toys.Fabric(accelerator="cpu", devices=1)
    fit(stage, train, fabric=fabric, folder=tmp_path, settings=LoopSettings(progress=False))
    points, labels = train.tensors()
    model.eval()
    with torch.no_grad():
        assert (model.encode(points).label.argmax(1) == labels).float().mean() > 0.95
        assert F.mse_loss(model(points), points) < 0.05 * points.var()
        drawn = model.sample(labels)
    for k in range(3):
        torch.testing.assert_close(
            drawn[labels == k].mean(0), points[labels == k].mean(0), atol=0.2, rtol=0
        )
