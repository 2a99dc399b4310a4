"""IcGAN: who learns from what. The reference is plain autograd, one full graph a player."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods import Codes, IcGAN
from dcorr_models.nets.icgan import ARCHITECTURES, ConditionalGenerator
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyAttributes, ToyImages

NETWORKS = ("generator", "discriminator", "latent_encoder", "label_encoder")


class Generator(nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(3 + labels, 16), nn.BatchNorm1d(16), nn.ReLU(),
            nn.Linear(16, 144), nn.Sigmoid(),
        )  # fmt: skip

    def forward(self, residual: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([residual, labels], dim=1)).unflatten(1, (1, 12, 12))


class Discriminator(nn.Module):
    def __init__(self, labels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(144 + labels, 16), nn.BatchNorm1d(16), nn.LeakyReLU(0.2), nn.Linear(16, 1)
        )

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.net(torch.cat([images.flatten(1), labels], dim=1))


def encoder(out: int) -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(144, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, out)
    )


def toy_icgan(seed: int = 0, **options: object) -> IcGAN:
    """On `ToyAttributes`, or with `multilabel=False` on `ToyImages`."""
    torch.manual_seed(seed)
    labels = 3 if options.get("multilabel", True) else 4
    settings: dict = {
        "image_shape": (1, 12, 12), "num_labels": labels, "multilabel": True, "latent_dim": 3,
        "batch_size": 24, "steps": 10, "encoder_steps": 10, "lr": 1e-3, "encoder_lr": 1e-3,
        "lr_milestones": (), "encoder_lr_milestones": (),
        "generator": Generator(labels), "discriminator": Discriminator(labels),
        "latent_encoder": encoder(3), "label_encoder": encoder(labels),
    }  # fmt: skip
    return IcGAN(**(settings | options))


def batch(n: int = 24, *, multilabel: bool = True) -> dict[str, Tensor]:
    data = ToyAttributes() if multilabel else ToyImages()
    return data.splits().train.__getitems__(range(n))


def prepared(stage: int, **options):
    """One stage in float64; with lr 0 the parameters stay and the gradients remain."""
    model = toy_icgan(**({"lr": 0.0, "encoder_lr": 0.0} | options)).double()
    chosen = model.stages()[stage]
    chosen.setup(Fabric(accelerator="cpu", devices=1, precision="64-true"))
    return model, chosen


def in_double(data: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.double() if v.is_floating_point() else v for k, v in data.items()}


def gradients(module: nn.Module) -> list[Tensor]:
    return [p.grad.clone() for p in module.parameters()]


def noise(times: int) -> list[Tensor]:
    """What a stage seeded with 5 draws for 24 images."""
    torch.manual_seed(5)
    return [torch.randn(24, 3) for _ in range(times)]


def check(got: list[Tensor], loss: Tensor, module: nn.Module) -> None:
    wanted = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    assert sum(g.abs().sum() for g in wanted) > 0
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("options", "draws"),
    [
        ({"updates": "sequential"}, 2),
        ({"updates": "sequential", "generator_noise": "shared"}, 1),
        ({"updates": "simultaneous"}, 1),
    ],
    ids=["fresh", "shared", "simultaneous"],
)
@pytest.mark.parametrize("wrong", [0.0, 0.5])
@pytest.mark.parametrize("coding", ["zero_one", "plus_minus_one"])
def test_each_player_gets_the_gradient_of_its_own_loss(options, draws, wrong, coding):
    model, stage = prepared(0, wrong_label_weight=wrong, label_coding=coding, **options)
    data = batch()
    codes = noise(draws)
    torch.manual_seed(5)
    logs = stage.step(in_double(data))

    # The losses written down with probabilities, one pass for each half.
    x, y = data["image"].double(), data["label"].double()
    y = 2 * y - 1 if coding == "plus_minus_one" else y
    others = torch.cat([y[-1:], y[:-1]])
    fakes = model.generator(codes[0].double(), y)
    real = -torch.log(torch.sigmoid(model.discriminator(x, y))).mean()
    fake = -torch.log(1 - torch.sigmoid(model.discriminator(fakes, y))).mean()
    mistaken = -torch.log(1 - torch.sigmoid(model.discriminator(x, others))).mean()
    cost = real + (1 - wrong) * fake + wrong * mistaken
    check(gradients(model.discriminator), cost, model.discriminator)
    judged = model.generator(codes[-1].double(), y)
    loss = -torch.log(torch.sigmoid(model.discriminator(judged, y))).mean()
    check(gradients(model.generator), loss, model.generator)
    assert logs["loss/real"].item() == pytest.approx(real.item(), rel=1e-5)
    assert logs["loss/fake"].item() == pytest.approx(fake.item(), rel=1e-5)
    assert logs["loss/generator"].item() == pytest.approx(loss.item(), rel=1e-5)
    assert ("loss/wrong_label" in logs) == (wrong > 0)


def test_shuffled_labels_are_given_to_the_generator_and_its_judge():
    model, stage = prepared(0, fake_labels="shuffled", generator_noise="shared")
    data, (z,) = batch(), noise(1)
    torch.manual_seed(5)
    stage.step(in_double(data))
    y = data["label"].double().roll(1, dims=0)
    loss = -F.logsigmoid(model.discriminator(model.generator(z.double(), y), y)).mean()
    check(gradients(model.generator), loss, model.generator)


@pytest.mark.parametrize("multilabel", [True, False])
@pytest.mark.parametrize("stored", [0, 7])
def test_each_encoder_gets_the_gradient_of_its_own_loss(multilabel, stored):
    model, stage = prepared(1, multilabel=multilabel, stored_codes=stored)
    data = batch(multilabel=multilabel)
    torch.manual_seed(5)
    z = torch.randn(24, 3)
    if stored:
        z = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))[data["index"] % 7]
        stage.stored = stage.stored.double()
    torch.manual_seed(5)
    before = {k: v.clone() for k, v in model.generator.state_dict().items()}
    # the noise of the stage is float32 in a float64 run: the generator is asked in float64
    model.generator.register_forward_pre_hook(lambda _, args: tuple(a.double() for a in args))
    stage.step(in_double(data))

    x, y = data["image"].double(), data["label"]
    y = y.double() if multilabel else F.one_hot(y, 4).double()
    with torch.no_grad():
        # Fabric hands on what a network returns in torch's default type, a fixed one's as well
        images = model.generator(z.double(), y).float().double()
    latent = ((model.latent_encoder(images) - z) ** 2).sum() / (24 * 3)
    label = ((model.label_encoder(x) - y) ** 2).sum() / y.numel()
    check(gradients(model.latent_encoder), latent, model.latent_encoder)
    check(gradients(model.label_encoder), label, model.label_encoder)
    # in eval mode and without gradients: its running statistics stay too
    assert all(p.grad is None for p in model.generator.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.generator.state_dict().items())


@pytest.mark.parametrize("updates", ["sequential", "simultaneous"])
@pytest.mark.parametrize("stage", [0, 1])
def test_each_update_moves_its_own_player_and_nobody_else(updates, stage, monkeypatch):
    model = toy_icgan(updates=updates, lr=1e-2, encoder_lr=1e-2)
    chosen = model.stages()[stage]
    chosen.setup(Fabric(accelerator="cpu", devices=1))
    moved: dict[str, set[str]] = {}
    update = chosen.update

    def watched(name, loss, **backward):
        before = {k: v.clone() for k, v in model.named_parameters()}
        update(name, loss, **backward)
        moved[name] = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}

    monkeypatch.setattr(chosen, "update", watched)
    chosen.step(batch())
    assert set(moved) == set(NETWORKS[:2] if stage == 0 else NETWORKS[2:])
    for player, changed in moved.items():
        assert changed == {f"{player}.{k}" for k, _ in getattr(model, player).named_parameters()}


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({"updates": "sequential"}, {"generator": 2, "discriminator": 3}),
        (
            {"updates": "sequential", "generator_noise": "shared"},
            {"generator": 1, "discriminator": 3},
        ),
        ({"updates": "simultaneous"}, {"generator": 1, "discriminator": 2}),
        (
            {"updates": "simultaneous", "wrong_label_weight": 0.5},
            {"generator": 1, "discriminator": 3},
        ),
    ],
)
def test_no_form_runs_a_network_more_often_than_it_has_to(options, passes):
    model = toy_icgan(**options)
    stage = model.stages()[0]
    stage.setup(Fabric(accelerator="cpu", devices=1))
    calls = dict.fromkeys(passes, 0)
    for name in calls:
        getattr(model, name).register_forward_hook(
            lambda *_, name=name: calls.__setitem__(name, calls[name] + 1)
        )
    stage.step(batch())
    assert calls == passes


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("options", [{}, {"updates": "simultaneous", "stored_codes": 50}])
def test_ten_steps_are_five_a_stop_and_five(tmp_path, stage, options):
    def weights_after(name: str, *stops: int) -> dict[str, Tensor]:
        for stop in stops:
            model = toy_icgan(**options)
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


@pytest.mark.parametrize(
    ("options", "counts"),
    [
        ({}, (105_505, 2_284_801, 1_645_866, 1_645_866)),
        (
            {"architecture": "celeba", "image_shape": (3, 64, 64), "num_labels": 40,
             "multilabel": True, "latent_dim": 100},
            (3_905_347, 2_848_449, 18_278_244, 3_198_248),
        ),
    ],
    ids=["mnist", "celeba"],
)  # fmt: skip
def test_parameter_counts_are_the_published_ones(options, counts):
    with torch.device("meta"):
        model = IcGAN(**options)
    got = tuple(sum(p.numel() for p in getattr(model, n).parameters()) for n in NETWORKS)
    assert got == counts


@pytest.mark.parametrize("single", [False, True])
def test_both_generators_draw_64_pixels_with_as_many_parameters(single):
    sizes = ARCHITECTURES["faces_small"]
    generator = ConditionalGenerator((3, 64, 64), sizes, num_labels=5, latent_dim=8, single=single)
    assert generator(torch.randn(2, 8), torch.rand(2, 5)).shape == (2, 3, 64, 64)
    assert sum(p.numel() for p in generator.parameters()) == 200_147


def test_the_label_code_is_thresholded_between_its_two_targets():
    for coding, middle in (("zero_one", 0.5), ("plus_minus_one", 0.0)):
        model = toy_icgan(label_coding=coding).eval()
        scores = torch.tensor([[-0.3, middle - 1e-4, middle + 1e-4]])
        model.label_encoder = nn.Module()
        model.label_encoder.forward = lambda _, scores=scores: scores
        assert model.encode(torch.rand(1, 1, 12, 12)).label.tolist() == [[0.0, 0.0, 1.0]]


def test_classes_are_one_hot_of_the_largest_score():
    model = toy_icgan(multilabel=False).eval()
    images = batch(multilabel=False)["image"]
    labels = model.encode(images).label
    assert torch.equal(labels.argmax(1), model.label_encoder(images).argmax(1))
    assert torch.equal(labels.sum(1), torch.ones(24))


def test_users_write_zero_and_one_whatever_the_networks_read():
    model = toy_icgan(label_coding="plus_minus_one").eval()
    y, z = torch.tensor([[0.0, 1.0, 3.0]]), torch.randn(1, 3)
    wanted = model.generator(z, torch.tensor([[-1.0, 1.0, 5.0]]))
    assert torch.equal(model.decode(Codes(y, z)), wanted)


def test_milestones_multiply_the_learning_rate_of_their_stage():
    model = toy_icgan(lr=1.0, lr_milestones=(2,), encoder_lr=2.0)
    for stage, rates in zip(model.stages(), ([1.0, 1.0, 0.75], [2.0, 2.0, 2.0]), strict=True):
        for name, optimizer in stage.optimizers.items():
            seen = []
            for _ in range(3):
                seen.append(optimizer.param_groups[0]["lr"])
                optimizer.step()
                stage.schedulers[name].step()
            assert seen == rates


def test_initial_weights_are_those_of_the_release():
    torch.manual_seed(0)
    port, original = IcGAN(), IcGAN(initialisation="dcgan")
    first = port.discriminator.first[0]
    assert first.weight.abs().max() <= 1 / (3 * 25) ** 0.5
    assert first.weight.std().item() == pytest.approx((1 / (3 * 25) ** 0.5) / 3**0.5, rel=0.05)
    assert not first.bias.any()
    assert original.discriminator.first[0].weight.std().item() == pytest.approx(0.02, rel=0.05)
    # the encoders keep PyTorch's initialisation
    assert port.label_encoder.layers[0][0].bias.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_shape": (1, 30, 28)}, "multiples of 4"),
        ({"generator_input": "single"}, "begins with a convolution"),
        ({"wrong_label_weight": 1.5}, "wrong_label_weight must lie in"),
        ({"betas": (0.5, 1.0)}, "betas must be two numbers"),
        ({"updates": "both"}, "updates must be one of"),
        ({"latent_dim": 0}, "latent_dim must be 1 or more"),
        ({"encoder_lr": float("nan")}, "encoder_lr must be 0 or more"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        IcGAN(**options)


@pytest.mark.parametrize("updates", ["sequential", "simultaneous"])
def test_bfloat16_autocast_trains_every_player(updates):
    model = toy_icgan(lr=1e-2, encoder_lr=1e-2, updates=updates)
    before = {k: v.clone() for k, v in model.named_parameters()}
    for stage in model.stages():
        stage.setup(Fabric(accelerator="cpu", devices=1, precision="bf16-mixed"))
        logs = stage.step(batch())
        assert all(torch.isfinite(value) for value in logs.values())
        stage.teardown()
    assert all(not torch.equal(v, before[k]) for k, v in model.named_parameters())
