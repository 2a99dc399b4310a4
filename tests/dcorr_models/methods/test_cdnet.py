"""CDNet: who learns from what. The reference is plain autograd, one full graph a player."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import dcorr
from dcorr_models.errors import UserError
from dcorr_models.methods import CDNet
from dcorr_models.methods.cdnet_stage import DisentangleStage
from dcorr_models.nets.cdnet import Critic
from dcorr_models.training.logs import Meter
from tests.dcorr_models.toy import ToyImages, toy_cdnet

PLAYERS = ("residual_encoder", "decoder", "discriminator")


def batch() -> dict[str, Tensor]:
    return ToyImages().splits().train.__getitems__(range(24))


def prepared(*, lr: float = 0.0, step: int = 2, dropout: bool = False, **options):
    """The second stage of a toy CDNet; with lr 0 the parameters stay and the gradients remain."""
    model = toy_cdnet(lr=lr, **options)
    for module in model.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    stage = model.stages()[1]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    stage.step_index = step
    return model, stage


def gradients(model: CDNet, player: str) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in getattr(model, player).parameters()]


def reference(model: CDNet, *, weight: float, factor: float = 1.0, epsilon: float = 0.0,
              sees_real: bool = True) -> dict[str, list[Tensor]]:  # fmt: skip
    """Section III of the paper written down directly, with probabilities instead of logits."""
    x = batch()["image"]
    with torch.no_grad():
        y = model.label_encoder(x).softmax(1)
    z = model.residual_encoder(x)
    x_hat = model.decoder(y, z)
    logits, h = model.discriminator(torch.cat([x_hat, x]))
    fake, real = logits.sigmoid().chunk(2)
    n = len(x)
    pixel = factor * ((x - x_hat) ** 2).sum() / (n * x[0].numel())
    feature = factor * ((h[n:] - h[:n]) ** 2).sum() / (n * h[0].numel())
    adversarial_real = torch.log(real + epsilon).mean()
    adversarial_fake = torch.log(1 - fake + epsilon).mean()
    losses = {
        "residual_encoder": pixel + feature + weight * dcorr.dcov2(y, z),
        "decoder": pixel + feature
        + 0.01 * (adversarial_fake + (adversarial_real if sees_real else 0.0)),
        "discriminator": -(adversarial_real + adversarial_fake),
    }  # fmt: skip
    return {
        name: list(
            torch.autograd.grad(loss, list(getattr(model, name).parameters()), retain_graph=True)
        )
        for name, loss in losses.items()
    }


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"reconstruction_factor": 0.5}, {"factor": 0.5}),
        ({"log_epsilon": 1e-3}, {"epsilon": 1e-3}),
        ({"generator_sees_real": False}, {"sees_real": False}),
    ],
)
def test_each_player_gets_the_gradient_of_its_own_loss(updates, options, expected):
    model, stage = prepared(updates=updates, **options)
    wanted = reference(model, weight=3 / 6, **expected)  # third of six ramp steps, λ = 1
    stage.step(batch())
    for player in PLAYERS:
        for got, want in zip(gradients(model, player), wanted[player], strict=True):
            torch.testing.assert_close(got, want, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
def test_each_update_moves_its_own_player_and_nobody_else(updates, monkeypatch):
    model, stage = prepared(lr=1e-2, updates=updates, dropout=True)
    moved: dict[str, set[str]] = {}
    update = stage.update

    def watched(name, loss, **backward):
        before = {k: v.clone() for k, v in model.named_parameters()}
        update(name, loss, **backward)
        moved[name] = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}

    monkeypatch.setattr(stage, "update", watched)
    stage.step(batch())
    for player in PLAYERS:
        own = {f"{player}.{k}" for k, _ in getattr(model, player).named_parameters()}
        assert moved[player] == own


def test_the_label_stage_moves_all_of_the_label_encoder_and_nothing_else():
    model = toy_cdnet()
    before = {k: v.clone() for k, v in model.named_parameters()}
    stage = model.stages()[0]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    stage.step(batch())
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {f"label_encoder.{k}" for k, _ in model.label_encoder.named_parameters()}


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize(
    ("off", "still"),
    [
        # Without reconstruction and regulariser nothing reaches Enc_z; the GAN moves the rest.
        ({"pixel_weight": 0.0, "feature_weight": 0.0, "decorrelation": "none"}, "residual_encoder"),
        # Without reconstruction and adversary nothing reaches the decoder; dcov2 moves Enc_z.
        ({"pixel_weight": 0.0, "feature_weight": 0.0, "adversarial_weight": 0.0}, "decoder"),
    ],
)
def test_a_player_without_a_loss_stays_still(updates, off, still):
    model, stage = prepared(updates=updates, **off)
    stage.step(batch())
    for player in PLAYERS:
        if not hasattr(model, player) or getattr(model, player) is None:
            continue
        size = sum(g.abs().sum().item() for g in gradients(model, player) if g is not None)
        assert (size == 0.0) == (player == still), player


def test_fixed_label_encoder_is_in_eval_mode_without_gradients():
    model, stage = prepared(lr=1e-2, dropout=True)
    before = {k: v.clone() for k, v in model.label_encoder.state_dict().items()}
    stage.step(batch())
    assert not model.label_encoder.training
    assert all(p.grad is None for p in model.label_encoder.parameters())
    # state_dict: the running statistics of BatchNorm count too
    assert all(torch.equal(v, before[k]) for k, v in model.label_encoder.state_dict().items())


def test_simultaneous_form_runs_each_network_once(monkeypatch):
    model, stage = prepared()
    calls = dict.fromkeys(("label_encoder", *PLAYERS), 0)
    for name in calls:
        getattr(model, name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    stage.step(batch())
    assert set(calls.values()) == {1}


class Gate:
    def __init__(self, generator: bool, discriminator: bool) -> None:
        from dcorr_models.training.gan import GateDecision

        self.decision = GateDecision(generator, discriminator)

    def __call__(self, *_: float):
        return self.decision


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize(
    ("decision", "rests"), [((False, True), "decoder"), ((True, False), "discriminator")]
)
def test_a_resting_player_keeps_parameters_and_optimizer_state(updates, decision, rests):
    _, stage = prepared(lr=1e-2, updates=updates)
    stage.settings = stage.settings._replace(gate=Gate(*decision))
    logs = stage.step(batch())
    assert logs["gate/generator"].item() == decision[0]
    assert logs["gate/discriminator"].item() == decision[1]
    for player in PLAYERS:
        assert bool(stage.optimizers[player].state) == (player != rests)


def test_the_gate_leaves_the_others_gradients_as_they_are():
    model, stage = prepared()
    wanted = reference(model, weight=3 / 6)
    stage.settings = stage.settings._replace(gate=Gate(True, False))
    stage.step(batch())
    for player in ("decoder", "residual_encoder"):
        for got, want in zip(gradients(model, player), wanted[player], strict=True):
            torch.testing.assert_close(got, want, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (
            {"feature_weight": 0.0, "adversarial_weight": 0.0, "decorrelation": "none"},
            {"loss/pixel"},
        ),
        (
            {"pixel_weight": 0.0, "decorrelation": "none"},
            {"loss/pixel", "loss/feature", "loss/real", "loss/fake"},
        ),
        ({"decorrelation": "none"}, {"loss/pixel", "loss/feature", "loss/real", "loss/fake"}),
    ],
    ids=["M1", "M2", "M3"],
)
def test_ablations_are_settings(updates, options, names):
    model, stage = prepared(lr=1e-3, updates=updates, **options)
    logs = stage.step(batch())
    assert {name for name in logs if name.startswith("loss/")} == names
    assert (model.discriminator is None) == ("loss/real" not in names)


def test_xcov_and_own_regularisers_take_the_place_of_dcov2():
    def encoder_gradient(decorrelation) -> Tensor:
        model, stage = prepared(
            decorrelation=decorrelation,
            pixel_weight=0.0,
            feature_weight=0.0,
            adversarial_weight=0.0,
        )
        stage.step(batch())
        return torch.cat([g.flatten() for g in gradients(model, "residual_encoder")])

    by_name, by_module = encoder_gradient("xcov"), encoder_gradient(dcorr.XCovLoss())
    assert torch.equal(by_name, by_module)
    assert not torch.allclose(by_name, encoder_gradient("dcov2"))


def test_the_ramp_counts_updates_from_one():
    _, stage = prepared(step=0)
    assert stage.step(batch())["weight/decorrelation"].item() == pytest.approx(1 / 6)
    stage.step_index = 50
    assert stage.step(batch())["weight/decorrelation"].item() == 1.0


def test_milestones_multiply_the_learning_rate():
    model = toy_cdnet(lr=1.0, lr_milestones=(2,), lr_decay=0.75)
    stage = model.stages()[1]
    rates = []
    for _ in range(3):
        rates.append(stage.optimizers["decoder"].param_groups[0]["lr"])
        stage.optimizers["decoder"].step()
        stage.schedulers["decoder"].step()
    assert rates == [1.0, 1.0, 0.75]


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, {"label_encoder": 3_179_482, "residual_encoder": 3_179_482,
              "decoder": 3_234_257, "discriminator": 967_969}),
        ({"architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
          "multilabel": True, "latent_dim": 1000},
         {"label_encoder": 74_275_368, "residual_encoder": 76_196_328,
          "decoder": 77_259_747, "discriminator": 10_031_201}),
    ],
    ids=["mnist", "celeba"],
)  # fmt: skip
def test_parameter_counts_are_the_published_ones(options, counts):
    with torch.device("meta"):
        model = CDNet(**options)
    got = {n: sum(p.numel() for p in getattr(model, n).parameters()) for n in counts}
    assert got == counts


def test_features_are_the_last_convolutions_output_before_batchnorm():
    torch.manual_seed(0)
    model = CDNet()
    critic = model.discriminator
    assert isinstance(critic, Critic)
    x = torch.rand(4, 1, 28, 28)
    logits, features = critic(x)
    assert features.shape == (4, 128, 7, 7)
    assert logits.shape == (4, 1)
    assert features.numel() / 4 == 6_272


def test_encode_and_decode_have_the_stated_shapes_and_ranges():
    torch.manual_seed(0)
    model = CDNet().eval()
    with torch.no_grad():
        codes = model.encode(torch.rand(3, 1, 28, 28))
        images = model.decode(codes)
    assert codes.label.shape == codes.residual.shape == (3, 10)
    torch.testing.assert_close(codes.label.sum(1), torch.ones(3))
    assert images.shape == (3, 1, 28, 28)
    assert images.min() >= 0
    assert images.max() <= 1


def test_multilabel_uses_sigmoid_and_binary_cross_entropy():
    model = toy_cdnet(multilabel=True)
    stage = model.stages()[0]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    torch.manual_seed(0)
    data = batch()
    data["label"] = F.one_hot(data["label"], 4).float()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    logits = model.label_encoder(data["image"])
    wanted = -(
        data["label"] * logits.sigmoid().log() + (1 - data["label"]) * (1 - logits.sigmoid()).log()
    ).mean()
    assert stage.step(data)["loss/class"].item() == pytest.approx(wanted.item(), rel=1e-5)
    assert (model.eval().encode(data["image"]).label.sum(1) != 1).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (1, 30, 28)}, "multiples of 4"),
        ({"image_shape": (3, 60, 64), "architecture": "celeba"}, "multiples of 8"),
        ({"latent_dim": 0}, "latent_dim must be 1 or more, got 0"),
        ({"num_labels": 0}, "num_labels must be 1 or more, got 0"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        CDNet(**options)


def test_settings_name_every_argument():
    settings = toy_cdnet(decorrelation=dcorr.XCovLoss()).settings()
    assert settings["class_path"] == "dcorr_models.methods.CDNet"
    assert settings["init_args"]["decorrelation"] == {"class_path": "dcorr.XCovLoss"}
    assert settings["init_args"]["image_shape"] == [1, 12, 12]
    assert isinstance(toy_cdnet().stages()[1], DisentangleStage)


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
def test_bfloat16_autocast_trains_every_player(updates):
    model = toy_cdnet(lr=1e-2, updates=updates)
    before = {k: v.clone() for k, v in model.named_parameters()}
    stage = model.stages()[1]
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
    logs = stage.step(batch())
    assert all(torch.isfinite(value) for value in logs.values())
    moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
    assert moved == {k for k in before if not k.startswith("label_encoder.")}


class ValuesRead(TorchDispatchMode):
    """Counts what would make the host wait for a GPU: reading a value, copying a new tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.count += name in ("_local_scalar_dense", "lift_fresh", "nonzero", "equal")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize("decorrelation", ["none", "xcov"])  # dcov2 reads values on a CPU only
def test_a_step_reads_no_value_back(updates, decorrelation, monkeypatch):
    def refused(_: Tensor) -> list:
        raise AssertionError("tolist() in a step")

    _, stage = prepared(lr=1e-2, dropout=True, updates=updates, decorrelation=decorrelation)
    data, meter = batch(), Meter()
    stage.step(data)  # optimizers make their states
    monkeypatch.setattr(Tensor, "tolist", refused)
    # The optimizer's own counter of steps lives on the host, also on a GPU.
    monkeypatch.setattr(stage, "optimizers", {k: Standing(v) for k, v in stage.optimizers.items()})
    with ValuesRead() as read:
        meter.add(stage.step(data))
    assert read.count == 0


class Standing:
    """An optimizer that takes no step."""

    def __init__(self, optimizer) -> None:
        self.zero_grad, self.param_groups = optimizer.zero_grad, optimizer.param_groups

    def step(self) -> None:
        return None
