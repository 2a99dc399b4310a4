"""Reconstruction losses: the formula by hand, the published columns, and how a stage runs them."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import SGD

from dcorr_models.errors import UserError
from dcorr_models.nets.feature_taps import FeatureTaps, TappedLayers
from dcorr_models.nets.perceptual import vgg16
from dcorr_models.training import perceptual
from dcorr_models.training.execution import Execution
from dcorr_models.training.perceptual import (
    COLUMNS,
    PerceptualLoss,
    PixelLoss,
    reconstruction_loss,
)
from dcorr_models.training.stage import Stage

SHALLOW = ("relu1_2", "pool2")


def pair(*shape: int, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_hat, x = (torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))
    return x_hat, x


class Two(nn.Module):
    """Two feature maps that a reader can compute: twice the image, and its sum over channels."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [2 * images, images.sum(dim=1, keepdim=True)]


@pytest.mark.parametrize("column", COLUMNS)
def test_the_formula_in_float64(column):
    x_hat, x = pair(3, 3, 4, 5, dtype=torch.float64)
    loss = PerceptualLoss(Two(), column=column, value_range=(-1, 1)).double()
    weight, pixel = {"keras": (0.2, 0.0), "port": (1.0, 1.0), "paper": (0.2, 0.0)}[column]
    wanted = 0.0
    for a, b in zip(x_hat, x, strict=True):
        d = (a - b) / 2  # from [-1, 1] to [0, 1]
        wanted += weight * (2 * d).abs().mean() + weight * d.sum(dim=0).abs().mean()
        wanted += pixel * d.abs().mean()
    torch.testing.assert_close(loss(x_hat, x), wanted / 3, rtol=1e-12, atol=0)


def test_squares_own_weights_and_reductions():
    x_hat, x = pair(3, 3, 4, 5, dtype=torch.float64)
    loss = PerceptualLoss(
        Two(), tap_weights=(0.5, 3.0), pixel_weight=7.0, norm="mse", reduction="none"
    ).double()
    d = x_hat - x
    wanted = 0.5 * (2 * d).square().mean(dim=(1, 2, 3)) + 3 * d.sum(dim=1).square().mean(dim=(1, 2))
    wanted = wanted + 7 * d.square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(loss(x_hat, x), wanted, rtol=1e-12, atol=0)
    for reduction in ("sum", "mean"):
        loss.reduction = reduction
        torch.testing.assert_close(loss(x_hat, x), getattr(wanted, reduction)())


@pytest.mark.parametrize("features", ["vgg16", "efficientnet_lite0"])
def test_equal_images_are_0_and_the_loss_is_symmetric(features):
    pytest.importorskip("efficientnet_lite_pytorch")
    x_hat, x = pair(2, 3, 32, 32)
    loss = PerceptualLoss(features, weights="random")
    assert loss(x, x).item() == 0
    assert loss(x_hat, x) == loss(x, x_hat) > 0


def test_the_columns_with_vgg16_by_hand():
    """What each published code computes, written out on its own preprocessing."""
    x_hat, x = pair(2, 3, 32, 32)
    network = vgg16("random").network
    port = sum((a - b).abs().mean() for a, b in zip(network(x_hat), network(x), strict=True))
    got = PerceptualLoss("vgg16", weights="random", column="port")(x_hat, x)
    torch.testing.assert_close(got, port + (x_hat - x).abs().mean())

    def caffe(images: Tensor) -> Tensor:
        means = torch.tensor([103.939, 116.779, 123.68]).reshape(3, 1, 1)
        return 255 * images[:, [2, 1, 0]] - means

    maps = zip(network(caffe(x_hat)), network(caffe(x)), strict=True)
    keras = sum((a - b).abs().mean() for a, b in maps) / 5
    got = PerceptualLoss("vgg16", weights="random", column="keras")(x_hat, x)
    torch.testing.assert_close(got, keras, rtol=1e-4, atol=0)


def test_weights_of_the_other_column_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    torch.save(vgg16("random", taps=SHALLOW).network.state_dict(), path)
    file = vgg16(path, taps=SHALLOW).name.split()[1]
    monkeypatch.setattr(perceptual, "_TORCHVISION_FILE", file)
    with pytest.raises(UserError, match="trained on another input than this column's"):
        PerceptualLoss("vgg16", weights=path, taps=SHALLOW, column="keras")
    PerceptualLoss("vgg16", weights=path, taps=SHALLOW, column="keras", normalisation="caffe")
    PerceptualLoss("vgg16", weights=path, taps=SHALLOW, column="port")
    monkeypatch.setattr(perceptual, "_TORCHVISION_FILE", "")
    monkeypatch.setattr(perceptual, "_CAFFE_FILE", file)
    with pytest.raises(UserError, match="trained on another input than this column's"):
        PerceptualLoss("vgg16", weights=path, taps=SHALLOW, column="port")
    loss = PerceptualLoss("vgg16", weights=path, taps=SHALLOW, column="keras")
    assert not loss.features.bgr  # torchvision keeps Caffe's weights in the order of RGB


def test_each_column_looks_for_its_own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for column, name in (("keras", "vgg16_features-amdegroot-88682ab5"), ("port", "vgg16-397923")):
        with pytest.raises(UserError, match=f"put torchvision's {name}"):
            reconstruction_loss("vgg16", column=column)


def test_gradients_reach_the_reconstruction_alone():
    x_hat, x = (t.requires_grad_() for t in pair(2, 1, 8, 8))
    loss = PerceptualLoss("vgg16", weights="random", taps=SHALLOW)
    loss(x_hat, x).backward()
    assert x.grad is None
    assert x_hat.grad.isfinite().all()
    assert x_hat.grad.abs().max() > 0
    assert all(p.grad is None for p in loss.parameters())
    assert not loss.train().training


def test_images_that_are_too_small_are_refused():
    x_hat, x = pair(2, 3, 28, 28)
    with pytest.raises(ValueError, match="takes images of side 32 or more, got"):
        PerceptualLoss("vgg16", weights="random")(x_hat, x)
    taps = ("relu1_2", "relu2_2", "relu3_2", "relu4_3")
    loss = PerceptualLoss("vgg16", weights="random", taps=taps)
    assert loss(x_hat, x) > 0


def test_autocast_changes_the_value_by_rounding_alone():
    x_hat, x = pair(2, 3, 32, 32)
    loss = PerceptualLoss("vgg16", weights="random")
    exact = loss(x_hat, x)
    with torch.autocast("cpu", torch.bfloat16):
        rough = loss(x_hat, x)
    assert rough.dtype == torch.float32
    assert rough != exact
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)
    # images of another type come from runs in another precision
    torch.testing.assert_close(loss(x_hat.double(), x.double()).float(), exact)


def test_memory_format_copies_and_compilation_change_nothing():
    x_hat, x = pair(2, 3, 16, 16)
    loss = PerceptualLoss("vgg16", weights="random", taps=SHALLOW)
    wanted = loss(x_hat, x)
    twin = copy.deepcopy(loss)
    assert twin(x_hat, x) == wanted
    assert twin.settings() == loss.settings()
    last = Execution(channels_last=True).prepare(twin)
    assert twin.features.network.features[0].weight.is_contiguous(memory_format=torch.channels_last)
    x_last = x_hat.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x_last, x), wanted)
    # graph breaks would raise; what Inductor makes of the graph is its own tests' business
    whole = torch.compile(loss, backend="aot_eager", fullgraph=True)
    leaf = x_hat.clone().requires_grad_()
    whole(leaf, x).backward()
    torch.testing.assert_close(whole(x_hat, x), wanted)
    plain = x_hat.clone().requires_grad_()
    loss(plain, x).backward()
    torch.testing.assert_close(leaf.grad, plain.grad)


@pytest.mark.slow
def test_compiled_by_inductor():
    x_hat, x = pair(2, 3, 32, 32)
    loss = PerceptualLoss("vgg16", weights="random")
    torch.testing.assert_close(torch.compile(loss)(x_hat, x), loss(x_hat, x), rtol=1e-4, atol=0)


class Sketch(Stage):
    """Learns an image by a frozen loss."""

    def __init__(self, loss: nn.Module) -> None:
        image = nn.Linear(1, 3 * 8 * 8)
        super().__init__(
            "sketch",
            networks={"image": image},
            fixed={"reconstruction": loss},
            optimizers={"image": SGD(image.parameters(), lr=0.1)},
            max_steps=1,
            batch_size=1,
        )

    def step(self, batch):
        x_hat = self.networks["image"](torch.ones(1, 1)).reshape(1, 3, 8, 8)
        with self.fabric.autocast():
            loss = self.fixed["reconstruction"](x_hat, batch["image"])
        self.update("image", loss)
        return {"loss/reconstruction": loss.detach()}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_stage_holds_it_fixed(precision):
    loss = PerceptualLoss("vgg16", weights="random", taps=SHALLOW)
    before = copy.deepcopy(loss.state_dict())
    stage = Sketch(loss)
    stage.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    values = [stage.step({"image": torch.zeros(1, 3, 8, 8)})["loss/reconstruction"] for _ in "abc"]
    stage.teardown()
    assert values[2] < values[0]
    assert values[0].dtype == torch.float32
    for name, value in loss.state_dict().items():
        assert torch.equal(value, before[name])


def test_pixel_losses():
    x_hat, x = pair(3, 1, 4, 4)
    assert torch.equal(reconstruction_loss("l1")(x_hat, x), (x_hat - x).abs().mean())
    torch.testing.assert_close(reconstruction_loss("mse")(x_hat, x), (x_hat - x).square().mean())
    each = PixelLoss(reduction="none")(x_hat, x)
    assert each.shape == (3,)
    torch.testing.assert_close(PixelLoss(reduction="sum")(x_hat, x), each.sum())
    assert [reconstruction_loss(name).name for name in ("l1", "mse")] == ["pixel L1", "pixel MSE"]


def test_modules_of_the_users_own():
    own = nn.Sequential(nn.Conv2d(3, 1, 1), nn.Dropout())
    assert reconstruction_loss(own) is own
    assert not own.training
    assert not any(p.requires_grad for p in own.parameters())
    taps = FeatureTaps(TappedLayers({"a": nn.Conv2d(3, 2, 1)}, ["a"]), name="mine")
    wrapped = reconstruction_loss(taps, column="keras")
    assert isinstance(wrapped, PerceptualLoss)
    assert wrapped.name == "mine, keras"
    assert wrapped.features is taps


def test_settings_make_the_same_loss_again():
    loss = PerceptualLoss("vgg16", weights="random", taps=SHALLOW, column="keras", norm="mse")
    settings = loss.settings()
    assert settings["class_path"] == "dcorr_models.training.perceptual.PerceptualLoss"
    x_hat, x = pair(1, 3, 8, 8)
    assert PerceptualLoss(**settings["init_args"])(x_hat, x) == loss(x_hat, x)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"features": "vgg19"}, "features must be vgg16"),
        ({"features": "l1"}, "PixelLoss"),
        ({"features": Two(), "column": "T"}, "column must be one of keras, port, paper"),
        ({"features": Two(), "weights": "random"}, "a module brings its own"),
        ({"features": Two(), "norm": "l2"}, "norm must be one of l1, mse"),
        ({"features": Two(), "reduction": "max"}, "reduction must be one of mean, sum, none"),
        (
            {"weights": "random", "taps": SHALLOW, "tap_weights": (1.0,)},
            "tap_weights need one number for each of the 2 taps relu1_2, pool2, got 1",
        ),
        ({"weights": "random", "normalisation": "zca"}, "normalisation must be one of"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        PerceptualLoss(**arguments)


def test_calls_that_are_refused():
    with pytest.raises(UserError, match="reconstruction must be one of l1, mse, vgg16"):
        reconstruction_loss("l2")
    with pytest.raises(UserError, match="norm must be one of"):
        PixelLoss(norm="l2")
    x = torch.zeros(2, 3, 4, 4)
    for loss in (PixelLoss(), PerceptualLoss(Two())):
        with pytest.raises(ValueError, match="x_hat and x need the same shape"):
            loss(x[:1], x)
    with pytest.raises(ValueError, match="tap_weights are 3, feature maps 2"):
        PerceptualLoss(Two(), tap_weights=(1.0, 1.0, 1.0))(x, x)
