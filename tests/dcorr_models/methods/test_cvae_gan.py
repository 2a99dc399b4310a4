"""cVAE-GAN: four gradients of one graph against plain autograd, and the means of its features."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dcorr_models.errors import UserError
from dcorr_models.methods import CVAEGAN
from dcorr_models.methods.cvae_gan import Triple
from dcorr_models.nets.cvae_gan import PlainDiscriminator, RunningClassMeans
from dcorr_models.nets.lr_livae import ARCHITECTURES
from tests.dcorr_models.methods import conditional_toys as toys

PLAYERS = ("encoder", "decoder", "discriminator", "classifier")
NAMES = ("kl", "pair", "mean", "class_mean")


def toy(*, norm: bool = False, **options) -> CVAEGAN:
    torch.manual_seed(options.get("seed", 0))
    nets = {
        "latent_dim": toys.LATENT,
        "discriminator": toys.Judge(1),
        "classifier": toys.Judge(toys.CLASSES, norm=norm),
        **toys.conditional_nets(norm=norm),
    }
    return toys.toy(CVAEGAN, **(nets | options))


def only(*names: str) -> dict[str, float]:
    """Weights of the generator's loss: 1 for those named, 0 for the others."""
    return {f"{name}_weight": float(name in names) for name in NAMES}


@pytest.fixture
def double():
    """float64 as the default: Fabric gives networks' outputs the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def reference(model: CVAEGAN, data: dict[str, Tensor], weights: dict[str, float]) -> dict:
    """The four losses written down directly, each with a graph of its own; first step's means."""
    x, y = data["image"], data["label"]
    one_hot = torch.eye(toys.CLASSES)
    torch.manual_seed(5)
    noise = torch.randn(toys.BATCH, toys.LATENT)
    classes = torch.randint(0, toys.CLASSES, (toys.BATCH,))
    prior = torch.randn(toys.BATCH, toys.LATENT)
    mu, log_variance = model.encoder(x, one_hot[y]).chunk(2, dim=1)
    rebuilt = model.decoder(one_hot[y], mu + (log_variance / 2).exp() * noise)
    sampled = model.decoder(one_hot[classes], prior)
    (d, f_d), (c, f_c) = model.discriminator(x), model.classifier(x)
    (d_rebuilt, f_d_rebuilt), (_, f_c_rebuilt) = (
        model.discriminator(rebuilt),
        model.classifier(rebuilt),
    )
    (d_sampled, f_d_sampled), (_, f_c_sampled) = (
        model.discriminator(sampled),
        model.classifier(sampled),
    )
    pair = sum(
        ((a - b) ** 2).sum() / 2 / toys.BATCH
        for a, b in ((x, rebuilt), (f_d, f_d_rebuilt), (f_c, f_c_rebuilt))
    )
    mean = ((f_d.mean(0) - f_d_sampled.mean(0)) ** 2).sum() / 2
    class_mean = sum(
        ((f_c[y == k].mean(0) - f_c_sampled[classes == k].mean(0)) ** 2).sum() / 2
        for k in classes.unique().tolist()
    )
    kl = -0.5 * (1 + log_variance - mu**2 - log_variance.exp()).sum() / toys.BATCH
    generator = (
        weights["kl"] * kl + weights["pair"] * pair
        + weights["mean"] * mean + weights["class_mean"] * class_mean
    )  # fmt: skip
    judge = -(d.sigmoid().log() + (1 - d_rebuilt.sigmoid()).log() + (1 - d_sampled.sigmoid()).log())
    losses = {
        "encoder": generator,
        "decoder": generator,
        "discriminator": judge.mean(),
        "classifier": F.cross_entropy(c, y),
    }
    gradients = {
        name: torch.autograd.grad(loss, list(getattr(model, name).parameters()), retain_graph=True)
        for name, loss in losses.items()
    }
    return {"pair": pair, "mean": mean, "class_mean": class_mean, "kl": kl, "grad": gradients}


@pytest.mark.usefixtures("double")
def test_each_player_gets_the_gradient_of_its_own_loss():
    weights = {"kl": 3.0, "pair": 1.0, "mean": 0.5, "class_mean": 0.25}
    model = toy(lr=0.0, **{f"{name}_weight": w for name, w in weights.items()}).double()
    data = toys.in_double(toys.batch())
    wanted = reference(copy.deepcopy(model), data, weights)
    stage = toys.prepared(model, precision="64-true")
    torch.manual_seed(5)
    logs = stage.step(data)
    for name in NAMES:
        torch.testing.assert_close(logs[f"loss/{name}"], wanted[name].detach())
    for name in PLAYERS:
        for parameter, want in zip(
            getattr(model, name).parameters(), wanted["grad"][name], strict=True
        ):
            assert want.abs().sum() > 0
            torch.testing.assert_close(parameter.grad, want)


@pytest.mark.parametrize(
    ("player", "networks"),
    [
        ("generator", {"encoder", "decoder"}),
        ("discriminator", {"discriminator"}),
        ("classifier", {"classifier"}),
        (None, set(PLAYERS)),
    ],
)
def test_each_network_moves_under_its_own_loss_alone(player, networks):
    assert toys.moved_by(toy, player) == networks


@pytest.mark.parametrize(
    ("names", "networks"),
    [
        ((), set()),
        (("kl",), {"encoder"}),
        (("pair",), {"encoder", "decoder"}),
        (("mean",), {"decoder"}),
        (("class_mean",), {"decoder"}),
    ],
)
def test_each_term_reaches_the_networks_that_the_paper_says(names, networks):
    """With no term nothing moves: no cross-entropy reaches encoder or decoder."""
    found = toys.moved_by(lambda: toy(**only(*names)), None)
    assert found - {"discriminator", "classifier"} == networks


def test_running_means_are_those_of_loops():
    torch.manual_seed(0)
    means, known = RunningClassMeans(3, 2, decay=0.8), {}
    for _ in range(6):
        features, labels = torch.randn(4, 2), torch.randint(0, 3, (4,))
        present = torch.tensor([bool((labels == k).any()) for k in range(3)])
        own = torch.stack([features[labels == k].mean(0) for k in range(3)])  # NaN where absent
        for k in present.nonzero().flatten().tolist():
            known[k] = 0.8 * known[k] + 0.2 * own[k] if k in known else own[k]
        out = means(own, present)
        for k in range(3):
            torch.testing.assert_close(out[k], known.get(k, torch.zeros(2)))
    assert torch.equal(means.means, out)


def test_gradient_of_running_means_is_that_of_the_batch():
    means = RunningClassMeans(2, 1, decay=0.75)
    means(torch.tensor([[1.0], [0.0]]), torch.tensor([True, False]))
    batch = torch.tensor([[2.0], [3.0]], requires_grad=True)
    means(batch, torch.tensor([True, True])).sum().backward()
    assert batch.grad.flatten().tolist() == [0.25, 1.0]


def test_classes_never_seen_do_not_count():
    """A class that only samples have, so far, has no mean to be brought to."""
    stage = toys.prepared(toy())
    features, real = torch.ones(4, 6), torch.tensor([0, 0, 1, 1])
    triple = Triple(features, features, 2 * features)
    assert stage._class_mean(triple, real, torch.tensor([2, 2, 3, 3])).item() == 0
    found = stage._class_mean(triple, real, torch.tensor([0, 2, 3, 3]))
    assert found.item() == pytest.approx(3.0)


def both_means(stage, features: Tensor, sampled: Tensor, y: Tensor, classes: Tensor) -> Tensor:
    """L_GD and L_GC of one process's images, with the same features for both judges."""
    triple = Triple(features, features, sampled)
    return stage._mean(triple) + stage._class_mean(triple, y, classes)


def test_means_of_two_processes_are_those_of_one_batch():
    """First each process writes down what it would send, then it gets the mean of both."""
    torch.manual_seed(0)
    real, sampled = torch.randn(8, 6), torch.randn(8, 6, requires_grad=True)
    y, classes = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3]), torch.tensor([3, 1, 1, 0, 0, 0, 2, 2])
    whole = both_means(toys.prepared(toy()), real, sampled, y, classes)
    (wanted,) = torch.autograd.grad(whole, sampled)
    sent: list[list[Tensor]] = [[], []]
    halves = [slice(0, 4), slice(4, 8)]

    def run(rank: int, answers: list[Tensor] | None) -> Tensor:
        stage, place = toys.prepared(toy()), iter(answers or [])
        stage.processes = 2

        def reduce(value: Tensor, *, times: int = 1) -> Tensor:
            if answers is None:
                sent[rank].append(value.detach())
                return value.detach() * times
            return next(place) * times

        stage.mean_over_ranks = reduce
        stage.sum_over_ranks = lambda value: reduce(value, times=2)
        part = halves[rank]
        return both_means(stage, real[part], sampled[part], y[part], classes[part])

    for rank in (0, 1):
        run(rank, None)
    answers = [(a + b) / 2 for a, b in zip(*sent, strict=True)]
    for rank in (0, 1):
        loss = run(rank, answers)
        torch.testing.assert_close(loss, whole)
        (found,) = torch.autograd.grad(loss, sampled)
        # DDP takes the mean over the processes of what each one's images contribute.
        torch.testing.assert_close(found[halves[rank]] / 2, wanted[halves[rank]])


def test_resume_is_exact_with_the_running_means(tmp_path):
    toys.check_resume(lambda seed: toy(seed=seed, norm=True), tmp_path)
    model = toys.trained(toy(), tmp_path / "means", steps=3)
    assert model.real_means.seen.all()
    assert "real_means.means" in model.state_dict()


def test_encode_takes_the_class_that_its_classifier_finds():
    model, images = toy().eval(), toys.batch(8)["image"]
    found = model.classifier(images)[0].argmax(dim=1)
    assert model.encode(images).label.argmax(dim=1).tolist() == found.tolist()
    assert model.sample(torch.tensor([1, 2])).shape == (2, 1, 12, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_mean_decay": 1.0}, r"class_mean_decay must lie in \[0, 1\), got 1.0"),
        ({"pair_weight": -1.0}, "pair_weight must be 0 or more, got -1.0"),
        ({"batch_size": 0}, "batch_size must be 1 or more"),
        ({"architecture": "vgg"}, "architecture must be one of"),
        (
            {"classifier": nn.Sequential(nn.Flatten(), nn.Linear(144, 4))},
            r"classifier must give a pair \(logits",
        ),
        ({"classifier": nn.Linear(3, 4)}, "classifier must give a pair.*got RuntimeError"),
    ],
)
def test_wrong_arguments_are_one_line(options, message):
    with pytest.raises(UserError, match=message) as error:
        toy(**options)
    assert "\n" not in str(error.value)


def test_the_discriminator_has_lr_livaes_layers_without_the_class():
    net = PlainDiscriminator((1, 28, 28), ARCHITECTURES["mnist_small"].critic)
    assert not any("embedding" in name for name, _ in net.named_parameters())
    judged = net(torch.rand(3, 1, 28, 28))
    assert judged.logits.shape == (3,)
    torch.testing.assert_close(
        judged.logits, net.eval().logit(judged.features)[:, 0], rtol=0.2, atol=0.1
    )


@pytest.mark.parametrize("name", ["toy", "mnist_small"])
def test_published_networks_train_a_step(name):
    side = ARCHITECTURES[name].side
    shape = (2, 1, 1) if name == "toy" else (1, side, side)
    torch.manual_seed(0)
    model = CVAEGAN(architecture=name, image_shape=shape, num_labels=3, latent_dim=2, batch_size=6)
    stage = toys.prepared(model)
    before = {k: v.detach().clone() for k, v in model.named_parameters()}
    logs = stage.step({"image": torch.rand(6, *shape), "label": torch.arange(6) % 3})
    assert all(torch.isfinite(value) for value in logs.values())
    still = [k for k, v in model.named_parameters() if torch.equal(v, before[k])]
    assert not still
