"""Distances in LPIPS's form: by hand, against torchmetrics, and what they may be called."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dcorr_models.errors import CheckpointError, UserError
from dcorr_models.metrics import perceptual_distance
from dcorr_models.metrics.perceptual_distance import (
    DISTANCES,
    PerceptualDistance,
    PixelDistance,
    image_distance,
    lpips_weights,
)
from dcorr_models.nets.feature_taps import FeatureTaps
from dcorr_models.nets.perceptual import VGG16_LPIPS_TAPS, alexnet, vgg16
from dcorr_models.nets.pretrained import read_weights


def pair(*shape: int, dtype=torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(shape, generator=generator, dtype=dtype) for _ in range(2))
    return x, y


class Two(nn.Module):
    def forward(self, images: Tensor) -> list[Tensor]:
        return [images, images[:, :2, ::2] - 0.5]


@pytest.mark.parametrize("weighted", [False, True])
def test_the_formula_by_loops_in_float64(weighted):
    x, y = pair(2, 3, 4, 2, dtype=torch.float64)
    features = FeatureTaps(Two(), name="two").double()
    linear = [torch.tensor([0.5, 2.0, 0.0]), torch.tensor([3.0, 1.0])] if weighted else None
    got = PerceptualDistance(features, linear=linear)(x, y)
    for n in range(2):
        wanted = 0.0
        for tap, (a, b) in enumerate(zip(Two()(x), Two()(y), strict=True)):
            channels, height, width = a.shape[1:]
            for h in range(height):
                for w in range(width):
                    u, v = a[n, :, h, w], b[n, :, h, w]
                    u, v = u / u.dot(u).sqrt(), v / v.dot(v).sqrt()
                    for c in range(channels):
                        weight = linear[tap][c].item() if weighted else 1.0
                        wanted += weight * (u[c] - v[c]).item() ** 2 / (height * width)
        assert got[n].item() == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("network", "file"), [("alexnet", "alex.pth"), ("vgg16", "vgg.pth")])
def test_torchmetrics_computes_the_same(monkeypatch, network, file):
    """Its own code for LPIPS on the same random network, with the published linear weights."""
    lpips = pytest.importorskip("torchmetrics.functional.image.lpips")
    if network == "alexnet":
        features = alexnet("random")
    else:
        features = vgg16("random", taps=VGG16_LPIPS_TAPS, normalisation="imagenet")
    monkeypatch.setattr(lpips, "_get_tv_model_features", lambda *_: features.network.features)
    theirs = lpips._LPIPS(net=file.split(".")[0])
    x, y = pair(2, 3, 32, 40) if network == "alexnet" else pair(2, 3, 16, 20)
    assert lpips_weights(network).name == file
    mine = PerceptualDistance(
        features, linear=perceptual_distance._read_linear(lpips_weights(network))
    )
    wanted = theirs(x, y, normalize=True).flatten()
    # It adds 1e-8 to squared lengths and shifts by three digits of ImageNet's means.
    torch.testing.assert_close(mine(x, y), wanted, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "vgg16"])
def test_equal_images_are_0_and_distances_are_symmetric(name):
    pytest.importorskip("torchmetrics")
    pytest.importorskip("efficientnet_lite_pytorch")
    x, y = pair(2, 1, 32, 32)
    distance = image_distance(name, weights=None if len(name) < 4 else "random")
    assert torch.equal(distance(x, x), torch.zeros(2))
    forth, back = distance(x, y), distance(y, x)
    assert forth.min() > 0
    torch.testing.assert_close(forth, back)
    torch.testing.assert_close(distance(x[1:], y[1:]), forth[1:])


def test_parts_of_a_batch_autocast_and_other_ranges_change_nothing(monkeypatch):
    x, y = pair(5, 3, 8, 8)
    features = vgg16("random", taps=("relu1_2", "relu2_2"))
    distance = PerceptualDistance(features)
    wanted = distance(x, y)
    monkeypatch.setattr(perceptual_distance, "_CHUNK", 2)
    torch.testing.assert_close(distance(x, y), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(distance(x, y), wanted)
    wide = vgg16("random", taps=("relu1_2", "relu2_2"), value_range=(-1, 1))
    torch.testing.assert_close(PerceptualDistance(wide)(2 * x - 1, 2 * y - 1), wanted)
    assert distance.to("cpu") is distance


def test_features_of_length_0_are_equal():
    distance = PerceptualDistance(FeatureTaps(nn.ReLU(), name="relu"))
    black = torch.zeros(1, 3, 4, 4)
    assert distance(black, black).item() == 0
    assert distance(black, black + 1).item() == pytest.approx(1)


def test_pixels():
    x, y = pair(3, 1, 4, 4)
    torch.testing.assert_close(PixelDistance("l1")(x, y), (x - y).abs().mean(dim=(1, 2, 3)))
    torch.testing.assert_close(PixelDistance("mse")(x, y), (x - y).square().mean(dim=(1, 2, 3)))
    assert [PixelDistance(norm).name for norm in ("l1", "mse")] == ["pixel L1", "pixel MSE"]


def test_only_the_published_files_are_called_lpips(tmp_path, monkeypatch):
    pytest.importorskip("torchmetrics")
    name = image_distance("lpips_alex", weights="random").name
    assert name == (
        "alexnet with random weights, LPIPS's form with linear weights df73285e (not LPIPS)"
    )
    # Were the random weights the published file, then this would be LPIPS.
    published = {("alexnet with random weights", "df73285e"): "LPIPS (AlexNet, v0.1)"}
    monkeypatch.setattr(perceptual_distance, "_LPIPS", published)
    assert image_distance("lpips_alex", weights="random").name == "LPIPS (AlexNet, v0.1)"
    state = read_weights(lpips_weights("alexnet"))
    state["lin0.model.1.weight"] += 1e-3
    torch.save(state, tmp_path / "alex.pth")
    changed = image_distance("lpips_alex", weights="random", linear=tmp_path / "alex.pth")
    assert changed.name.endswith("(not LPIPS)")


def test_the_linear_weights_of_torchmetrics_are_the_published_ones():
    pytest.importorskip("torchmetrics")
    files = {perceptual_distance.fingerprint(lpips_weights(n)) for n in ("alexnet", "vgg16")}
    assert files == {linear for _, linear in perceptual_distance._LPIPS}


def test_what_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="distance must be one of l1, mse, vgg16"):
        image_distance("lpips")
    with pytest.raises(UserError, match="norm must be one of l1, mse"):
        PixelDistance("l2")
    with pytest.raises(UserError, match="there is no file of weights"):
        image_distance("lpips_alex", weights="random", linear=tmp_path / "none.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="holds no linear weights of LPIPS"):
        image_distance("lpips_alex", weights="random", linear=tmp_path / "a.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError, match="alexnet has no weights: put torchvision's alexnet-owt"):
        image_distance("lpips_alex")
    monkeypatch.setattr(perceptual_distance, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="there are no linear weights of LPIPS"):
        lpips_weights("alexnet")


def test_calls_that_are_refused():
    x = torch.zeros(2, 3, 4, 4)
    features = FeatureTaps(Two(), name="two")
    for distance in (PixelDistance(), PerceptualDistance(features)):
        with pytest.raises(ValueError, match="x and y need the same shape"):
            distance(x[:1], x)
        with pytest.raises(TypeError, match="x and y must be floating point"):
            distance(x.long(), x.long())
    with pytest.raises(ValueError, match="linear weights are of 1 taps, two has 2"):
        PerceptualDistance(features, linear=[torch.ones(3)])(x, x)
    with pytest.raises(ValueError, match="linear weights are of 2 channels, the tap has 3"):
        PerceptualDistance(features, linear=[torch.ones(2), torch.ones(2)])(x, x)
