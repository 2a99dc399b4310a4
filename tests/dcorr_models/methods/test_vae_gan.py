"""VAE/GAN: three gradients of one graph against plain autograd, and the vectors that edit z."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods import VAEGAN, Codes
from dcorr_models.methods.code_means import CodeMeans
from dcorr_models.methods.vae_gan_stage import Schedule, gaussian_kl
from dcorr_models.nets.cdnet import CriticOutput
from dcorr_models.training.fit import LoopSettings, fit
from dcorr_models.training.gan import GateDecision
from tests.dcorr_models.toy import ToyAttributes, ToyImages

PLAYERS = ("encoder", "decoder", "discriminator")


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 144), nn.Sigmoid()
        )

    def forward(self, codes: Tensor) -> Tensor:
        return self.net(codes).unflatten(1, (1, 12, 12))


class Critic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(144, 16))
        self.head = nn.Sequential(nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, images: Tensor) -> CriticOutput:
        features = self.trunk(images)
        return CriticOutput(self.head(features), features)


def toy_vae_gan(seed: int = 0, **options: object) -> VAEGAN:
    """On `ToyAttributes`, or with `multilabel=False` on `ToyImages`."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 6)
    )
    settings: dict = {
        "image_shape": (1, 12, 12), "num_labels": 3 if options.get("multilabel", True) else 4,
        "multilabel": True, "latent_dim": 3, "batch_size": 24, "steps": 10, "lr": 1e-3,
        "vector_images": 96, "gate": False,
        "encoder": encoder, "decoder": Decoder(), "discriminator": Critic(),
    }  # fmt: skip
    return VAEGAN(**(settings | options))


def batch(n: int = 24, *, multilabel: bool = True) -> dict[str, Tensor]:
    data = ToyAttributes() if multilabel else ToyImages()
    return data.splits().train.__getitems__(range(n))


@pytest.fixture
def double():
    """float64 as the default: Fabric gives networks' outputs the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def prepared(**options):
    """The first stage in float64; with lr 0 the parameters stay and the gradients remain."""
    model = toy_vae_gan(**({"lr": 0.0} | options)).double()
    stage = model.stages()[0]
    stage.setup(Fabric(accelerator="cpu", devices=1, precision="64-true"))
    return model, stage


def step(stage) -> dict[str, Tensor]:
    data = batch()
    torch.manual_seed(5)
    return stage.step({k: v.double() if v.is_floating_point() else v for k, v in data.items()})


def gradients(model: VAEGAN, player: str) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in getattr(model, player).parameters()]


def reference(model: VAEGAN, *, weights=(1.0, 0.01, 0.99), mean=False, both=False,
              sees_real=True, epsilon=1e-3) -> dict[str, list[Tensor]]:  # fmt: skip
    """The losses written down directly, on one graph for each player, with probabilities."""
    x = batch()["image"].double()
    torch.manual_seed(5)
    noise, prior = (torch.randn(24, 3) for _ in range(2))
    mu, log_variance = model.encoder(x).chunk(2, dim=1)
    z = mu + (log_variance / 2).exp() * noise
    rebuilt, sampled = model.decoder(z), model.decoder(prior)
    h = model.discriminator(torch.cat([rebuilt, x]))[1]
    # the adversary's gradient does not reach the encoder
    again = model.decoder(z.detach())
    fakes = torch.cat([sampled, again]) if both else sampled
    p = torch.sigmoid(model.discriminator(torch.cat([fakes, x]))[0])
    reduce = torch.mean if mean else torch.sum
    kl = -0.5 * reduce(1 + log_variance - mu**2 - log_variance.exp())
    feature = reduce((h[24:] - h[:24]) ** 2) / 2
    fake = reduce(-torch.log(1 - p[: len(fakes)] + epsilon))
    real = reduce(-torch.log(p[len(fakes) :] + epsilon))
    w_kl, w_feature, w_adversarial = weights
    losses = {
        "encoder": w_kl * kl + feature,
        "decoder": w_feature * feature - w_adversarial * (fake + (real if sees_real else 0)),
        "discriminator": real + fake,
    }
    return {
        name: list(
            torch.autograd.grad(loss, list(getattr(model, name).parameters()), retain_graph=True)
        )
        for name, loss in losses.items()
    }


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"fakes": "both"}, {"both": True}),
        ({"reduction": "mean"}, {"mean": True}),
        ({"generator_sees_real": False}, {"sees_real": False}),
        ({"log_epsilon": 0.0}, {"epsilon": 0.0}),
        (
            {"kl_weight": 0.5, "feature_weight": 2e-6, "adversarial_weight": 0.5},
            {"weights": (0.5, 2e-6, 0.5)},
        ),
    ],
    ids=lambda value: "-".join(value) or "port",
)
@pytest.mark.usefixtures("double")
def test_each_player_gets_the_gradient_of_its_own_loss(options, expected):
    model, stage = prepared(**options)
    wanted = reference(model, **expected)
    step(stage)
    for player in PLAYERS:
        assert sum(g.abs().sum() for g in wanted[player]) > 0
        for got, want in zip(gradients(model, player), wanted[player], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


def test_each_update_moves_its_own_player_and_nobody_else(monkeypatch):
    model = toy_vae_gan(lr=1e-2)
    stage = model.stages()[0]
    stage.setup(Fabric(accelerator="cpu", devices=1))
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


class Gate:
    def __init__(self, generator: bool, discriminator: bool) -> None:
        self.decision = GateDecision(generator, discriminator)

    def __call__(self, *_: float) -> GateDecision:
        return self.decision


@pytest.mark.parametrize(
    ("decision", "rests"), [((False, True), "decoder"), ((True, False), "discriminator")]
)
@pytest.mark.usefixtures("double")
def test_a_resting_player_keeps_still_and_leaves_the_others_their_gradients(decision, rests):
    model, stage = prepared()
    wanted = reference(model)
    stage.settings = stage.settings._replace(gate=Gate(*decision))
    logs = step(stage)
    assert logs["gate/generator"].item() == decision[0]
    assert logs["gate/discriminator"].item() == decision[1]
    for player in PLAYERS:
        if player == rests:
            assert not stage.optimizers[player].state
            continue
        for got, want in zip(gradients(model, player), wanted[player], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("double")
def test_the_gate_sees_means_also_where_the_losses_are_sums():
    _, stage = prepared()
    seen: list[float] = []

    class Watching(Gate):
        def __call__(self, *costs: float) -> GateDecision:
            seen.extend(costs)
            return self.decision

    stage.settings = stage.settings._replace(gate=Watching(True, True))
    step(stage)
    assert all(0 < cost < 3 for cost in seen)
    assert seen[0] == pytest.approx(math.log(2), abs=0.6)
    assert len(seen) == 2


def test_kl_is_the_divergence_from_the_standard_normal():
    mean, log_variance = torch.tensor([0.5, -1.0]), torch.tensor([0.3, -2.0])
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(gaussian_kl(mean, log_variance), wanted)


@pytest.mark.parametrize("stage", [0, 1])
def test_ten_steps_are_five_a_stop_and_five(tmp_path, stage):
    def weights_after(name: str, *stops: int) -> dict[str, Tensor]:
        for stop in stops:
            model = toy_vae_gan(gate=True)
            torch.rand(stop)  # the state before a run does not matter
            chosen = model.stages()[stage]
            chosen.max_steps = stop
            fit(
                chosen,
                ToyAttributes().splits().train,
                fabric=Fabric(accelerator="cpu", devices=1),
                folder=tmp_path / name,
                seed=3,
                settings=LoopSettings(progress=False),
            )
        return model.state_dict()

    whole, parts = weights_after("whole", 10), weights_after("parts", 5, 10)
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def with_means(**options) -> tuple[VAEGAN, Tensor, Tensor]:
    """A model after the stage of the code means, and z and labels of the 96 training images."""
    model = toy_vae_gan(**options)
    data = ToyAttributes() if model.multilabel else ToyImages()
    stage = model.stages()[1]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    train = data.splits().train
    for first in range(0, 96, 24):
        stage.step(train.__getitems__(range(first, first + 24)))
    stage.teardown()
    images, labels = train.tensors()
    with torch.no_grad():
        return model.eval(), model.encoder(images)[:, :3], labels


def test_attribute_vectors_are_differences_of_means():
    model, z, labels = with_means()
    for k in range(3):
        own = labels[:, k] == 1
        wanted = z[own].mean(0) - z[~own].mean(0)
        torch.testing.assert_close(model.directions(z)[k], wanted, rtol=1e-4, atol=1e-6)
    assert model.code_means.sums[-1, -1].item() == 96


def test_an_intensity_adds_that_much_of_the_vector():
    model, z, _ = with_means()
    images = batch(4)["image"]
    codes = model.encode(images)
    assert torch.equal(codes.label, torch.zeros(4, 3))
    torch.testing.assert_close(codes.residual, z[:4])
    codes.label[:, 1] = 2.5
    wanted = model.decoder(z[:4] + 2.5 * model.directions(z)[1])
    torch.testing.assert_close(model.decode(codes), wanted)


def test_classes_are_the_nearest_mean_and_a_swap_moves_by_the_difference_of_means():
    model, z, labels = with_means(multilabel=False)
    means = torch.stack([z[labels == k].mean(0) for k in range(4)])
    torch.testing.assert_close(model.directions(z), means, rtol=1e-4, atol=1e-6)
    images = batch(8, multilabel=False)["image"]
    codes = model.encode(images)
    nearest = ((z[:8, None] - means) ** 2).sum(2).argmin(1)
    assert torch.equal(codes.label, F.one_hot(nearest, 4).float())
    torch.testing.assert_close(model.decode(codes), model.decoder(z[:8]))
    swapped = codes.label.roll(1, dims=1)
    moved = z[:8] + means[(nearest + 1) % 4] - means[nearest]
    wanted = model.decoder(moved)
    torch.testing.assert_close(
        model.decode(Codes(swapped, codes.residual)), wanted, rtol=1e-4, atol=1e-5
    )


def test_a_label_that_none_or_all_have_gets_no_vector():
    means = CodeMeans(num_labels=2, latent_dim=3)
    assert not means.vectors().any()
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    means.add(means.batch_sums(torch.ones(2, 3), labels))
    assert not means.vectors().any()


def test_the_stage_of_the_means_moves_nothing_and_begins_at_zero():
    model, _, _ = with_means()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    stage = model.train().stages()[1]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    assert not model.code_means.sums.any()
    stage.step(batch())
    assert not model.encoder.training
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"code_means.sums"}


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, (3_211_512, 3_197_617, 968_225)),
        (
            {"architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
             "multilabel": True, "latent_dim": 128},
            (36_949_824, 4_693_155, 10_952_833),
        ),
    ],
    ids=["mnist", "celeba"],
)  # fmt: skip
def test_parameter_counts_are_the_published_ones(options, counts):
    with torch.device("meta"):
        model = VAEGAN(**options)
    assert tuple(sum(p.numel() for p in getattr(model, n).parameters()) for n in PLAYERS) == counts


@pytest.mark.parametrize("architecture", ["faces_small", "larsen"])
def test_the_networks_for_faces_fit_together(architecture):
    with torch.device("meta"):
        model = VAEGAN(
            architecture=architecture, image_shape=(3, 64, 64), batch_norm_momentum=0.9
        ).eval()
        images = torch.empty(2, 3, 64, 64)
        rebuilt = model.decoder(model.encoder(images)[:, :20])
        logits, features = model.discriminator(rebuilt)
    assert rebuilt.shape == images.shape
    assert logits.shape == (2, 1)
    assert features.shape[2:] == (8, 8)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert {m.momentum for m in norms} == {0.9}
    assert {m.eps for m in norms} == {1e-6 if architecture == "larsen" else 1e-5}


def test_the_features_are_those_of_the_chosen_layer():
    with torch.device("meta"):
        for layer, shape in ((0, (128, 7, 7)), (2, (128, 7, 7)), (1, (64, 14, 14))):
            model = VAEGAN(feature_layer=layer)
            assert model.discriminator(torch.empty(2, 1, 28, 28))[1].shape == (2, *shape)


def test_both_schedules_of_the_learning_rate():
    port = Schedule(100, 4, 3e-4, (10, 20), 0.75, None, 0.75, 0.0)
    assert [port.factor(t) for t in (0, 9, 10, 20)] == [1.0, 1.0, 0.75, 0.5625]
    original = Schedule(100, 4, 4e-4, (), 0.75, 1e-7, 0.75, 0.0)
    assert 4e-4 * original.factor(0) == pytest.approx(4e-4)
    assert 4e-4 * original.factor(100) == pytest.approx(1e-7)
    assert 4e-4 * original.factor(50) == pytest.approx(4e-4 - (4e-4 - 1e-7) * 0.5**0.75)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (1, 30, 28)}, "multiples of 4"),
        ({"feature_layer": 3}, "feature_layer must be 1 to 2"),
        ({"batch_norm_momentum": 0.0}, "batch_norm_momentum must lie in"),
        ({"fakes": "real"}, "fakes must be one of"),
        ({"vector_images": 0}, "vector_images must be 1 or more"),
        ({"lr_end": -1.0}, "lr_end must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        VAEGAN(**options)


def test_bfloat16_autocast_trains_every_player():
    model = toy_vae_gan(lr=1e-2)
    before = {k: v.clone() for k, v in model.named_parameters()}
    for stage in model.stages():
        stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
        logs = stage.step(batch())
        assert all(torch.isfinite(value) for value in logs.values())
        stage.teardown()
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters())
