"""Lr-LiVAE: who moves by which loss, the shared step, what is drawn, and what is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import dcorr
from dcorr_models import editing
from dcorr_models.admission import rehearse
from dcorr_models.errors import CheckpointError, UserError
from dcorr_models.experiment import load_run, train
from dcorr_models.methods import LrLiVAE
from dcorr_models.methods.lr_livae_stage import LrLiVAEStage
from dcorr_models.training.fit import LoopSettings
from tests.dcorr_models.methods.lr_livae_toys import (
    BATCH,
    CLASSES,
    batch,
    images,
    toy_lr_livae,
)
from tests.dcorr_models.methods.rival_toys import (
    CLASS_DIM,
    CONTENT_DIM,
    check_resume,
    moved,
    prepared,
    snapshot,
    trained,
)
from tests.dcorr_models.toy import ToyImages

NOTHING = {
    "n_gm": 0,
    "joint_batch": "last",
    "reconstruction_weight": 0.0,
    "joint_likelihood_weight": 0.0,
    "kl_weight": 0.0,
    "confusion_weight": 0.0,
    "gan_weight": 0.0,
}
OPPONENTS = {"discriminator", "adversary"}


@pytest.mark.parametrize(
    ("options", "players"),
    [
        ({}, set()),
        ({"reconstruction_weight": 10.0}, {"class_encoder", "content_encoder", "decoder"}),
        ({"joint_likelihood_weight": 1.0}, {"class_encoder"}),
        ({"kl_weight": 1.0}, {"content_encoder"}),
        ({"confusion_weight": 1.0}, {"content_encoder"}),
        ({"gan_weight": 1.0}, {"decoder"}),
        ({"gan_weight": 1.0, "gan_loss": "hinge"}, {"decoder"}),
        ({"n_gm": 1}, {"class_encoder", "gaussians"}),
    ],
)
def test_each_network_moves_by_its_own_loss_alone(options, players):
    model = toy_lr_livae(**(NOTHING | options))
    before = snapshot(model)
    prepared(model).step(batch(BATCH))
    assert moved(model, before) == players | OPPONENTS


@pytest.mark.parametrize("dcov_with", ["labels", "class_code"])
def test_distance_covariance_moves_the_content_encoder_alone(dcov_with):
    weights = NOTHING | {"confusion_weight": 1.0, "adversary": "dcov", "dcov_with": dcov_with}
    model = toy_lr_livae(**weights, use_discriminator=False)
    before = snapshot(model)
    logs = prepared(model).step(batch(BATCH))
    assert moved(model, before) == {"content_encoder"}
    assert logs["loss/dcov"] > 0


def test_without_opponents_it_is_the_papers_vae():
    model = toy_lr_livae(use_discriminator=False, adversary="none")
    assert model.discriminator is None
    assert model.adversary is None
    before = snapshot(model)
    logs = prepared(model).step(batch(3 * BATCH))
    assert moved(model, before) == {"class_encoder", "content_encoder", "decoder", "gaussians"}
    assert set(logs) == {
        "loss/classification", "loss/likelihood", "loss/joint_likelihood", "loss/pixel", "loss/kl",
    }  # fmt: skip


def losses(model: LrLiVAE, data: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """What each player minimises (facts of the release), from a forward pass of its own."""
    x, y, settings = data["image"], data["label"], model.step_settings
    torch.manual_seed(seed)
    noise = torch.randn(len(x), CONTENT_DIM)
    z_s = model.class_encoder(x)
    mean, log_variance = model.content_encoder(x).chunk(2, dim=1)
    z_u = mean + (log_variance / 2).exp() * noise
    rebuilt = model.decoder(z_s, z_u)
    prior = model.gaussians.mixture
    own = Normal(prior.means[y], (prior.log_variances[y] / 2).exp())
    z_s_prior = own.mean + own.stddev * torch.randn(len(x), CLASS_DIM)
    sampled = model.decoder(z_s_prior.detach(), torch.randn(len(x), CONTENT_DIM))
    pixel = 10 * (rebuilt - x).square().mean()
    logits = model.adversary(z_u)
    real, fake, drawn = (model.discriminator(part, y)[0] for part in (x, rebuilt, sampled))
    posterior = Normal(mean, (log_variance / 2).exp())
    kl = kl_divergence(posterior, Normal(torch.zeros(()), torch.ones(()))).mean()
    if settings.gan_loss == "hinge":
        judged = F.relu(1 - real).mean() + F.relu(1 + fake).mean() + F.relu(1 + drawn).mean()
        wanted = -fake.mean() - drawn.mean()
    else:
        judged = F.softplus(-real).mean() + F.softplus(fake).mean() + F.softplus(drawn).mean()
        wanted = F.softplus(-fake).mean() + F.softplus(-drawn).mean()
    return {
        "class_encoder": pixel - own.log_prob(z_s).sum(1).mean(),
        "content_encoder": pixel + kl + F.cross_entropy(logits, torch.full_like(logits, 1 / 8)),
        "decoder": pixel + wanted,
        "discriminator": judged,
        "adversary": F.cross_entropy(logits, y),
    }


@pytest.mark.parametrize("gan_loss", ["log", "hinge"])
def test_the_shared_step_has_the_gradients_of_players_taken_afresh(gan_loss):
    model = toy_lr_livae(n_gm=0, joint_batch="last", gan_loss=gan_loss, lr=0.0)
    with torch.no_grad():
        model.discriminator.logit.bias.fill_(1.0)
    # Spectral norm follows its weight by one step a pass: no step in evaluation.
    model.discriminator.eval()
    data, wanted = batch(BATCH), {}
    real = model.discriminator(data["image"], data["label"])[0]
    assert real.min() < 1 < real.max(), "on both sides of the hinge's corner"
    for player in losses(model, data, 3):
        twin = copy.deepcopy(model)
        losses(twin, data, 3)[player].backward()
        wanted[player] = [p.grad for p in getattr(twin, player).parameters()]
    stage = prepared(model)
    model.discriminator.eval()
    torch.manual_seed(3)
    stage.step(data)
    for player, gradients in wanted.items():
        for own, other in zip(getattr(model, player).parameters(), gradients, strict=True):
            torch.testing.assert_close(own.grad, other, rtol=1e-4, atol=1e-6)


class BatchCritic(nn.Module):
    """Each logit depends on the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(144, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)
        )

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.net(images).squeeze(1) + labels
        return logits, logits


def test_a_discriminator_with_batch_statistics_has_its_own_gradient_for_the_decoder():
    model = toy_lr_livae(
        n_gm=0, joint_batch="last", lr=0.0, reconstruction_weight=0.0, discriminator=BatchCritic()
    )
    twin = copy.deepcopy(model)
    stage = prepared(model)
    torch.manual_seed(3)
    stage.step(batch(BATCH))
    torch.manual_seed(3)
    data = batch(BATCH)
    mean, log_variance = twin.content_encoder(data["image"]).chunk(2, dim=1)
    z_u = mean + (log_variance / 2).exp() * torch.randn(BATCH, CONTENT_DIM)
    z_s, prior = twin.class_encoder(data["image"]), twin.gaussians.mixture.sample(data["label"])
    rebuilt = twin.decoder(z_s.detach(), z_u.detach())
    sampled = twin.decoder(prior.detach(), torch.randn(BATCH, CONTENT_DIM))
    fakes = torch.cat([rebuilt, sampled])
    logits = twin.discriminator(torch.cat([data["image"], fakes]), data["label"].repeat(3))[0]
    (2 * F.softplus(-logits[BATCH:]).mean()).backward()
    pairs = zip(model.decoder.parameters(), twin.decoder.parameters(), strict=True)
    for own, other in pairs:
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_gm_steps_are_those_of_the_loss_and_two_adams_hold_the_class_encoder():
    model = toy_lr_livae(n_gm=2, lr=1e-3)
    twin, data = copy.deepcopy(model), batch(3 * BATCH)
    stage = prepared(model)
    stage.step(data)
    variances = twin.gaussians.mixture.raw_log_variances
    own = [*twin.class_encoder.parameters(), twin.gaussians.mixture.means, variances]
    adam = torch.optim.Adam(own, lr=1e-3, betas=(0.0, 0.9))
    for k in range(2):
        rows = slice(k * BATCH, (k + 1) * BATCH)
        z, y = twin.class_encoder(data["image"][rows]), data["label"][rows]
        adam.zero_grad()
        mixture = twin.gaussians.mixture
        dcorr.gm_loss(z, y, mixture.means, mixture.log_variances, likelihood_weight=0.1).backward()
        adam.step()
    for name in ("means", "raw_log_variances"):
        found, wanted = (
            getattr(model.gaussians.mixture, name),
            getattr(twin.gaussians.mixture, name),
        )
        torch.testing.assert_close(found, wanted)
    states = [stage.optimizers[name].state for name in ("gaussians", "class_encoder")]
    first = next(model.class_encoder.parameters())
    assert [int(state[first]["step"]) for state in states] == [2, 1]
    assert not torch.equal(*(state[first]["exp_avg_sq"] for state in states))


def test_an_iteration_takes_a_new_joint_batch_or_the_last_one():
    assert toy_lr_livae(n_gm=3).stages()[0].batch_size == 4 * BATCH
    assert toy_lr_livae(n_gm=3, joint_batch="last").stages()[0].batch_size == 3 * BATCH
    assert toy_lr_livae(n_gm=0, joint_batch="last").stages()[0].batch_size == BATCH


def test_without_gm_steps_the_gaussians_stay_and_nothing_warns(tmp_path: Path, recwarn):
    model = small(n_gm=0, joint_batch="last", steps=3)
    before = {k: v.clone() for k, v in model.gaussians.mixture.state_dict().items()}
    train(model, SmallImages(), tmp_path / "run", loop=LoopSettings(progress=False))
    after = model.gaussians.mixture.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items() if k != "priors")
    assert not [w for w in recwarn if "scheduler" in str(w.message)]


def test_rate_of_the_variances_falls_at_its_milestones():
    model = toy_lr_livae(variance_lr_milestones=(2, 3))
    stage, rates = prepared(model), []
    for _ in range(4):
        stage.step(batch(3 * BATCH))
        rates.append([group["lr"] for group in stage.optimizers["gaussians"].param_groups])
        stage.schedulers["gaussians"].step()
    assert [rate for rate, _ in rates] == [0.01] * 4
    assert [rate for _, rate in rates] == pytest.approx([0.01, 0.01, 1e-3, 1e-4])


def test_training_lowers_the_losses_and_draws_the_class_asked_for(tmp_path: Path):
    model = toy_lr_livae(reconstruction_weight=100.0, use_discriminator=False, n_gm=1)
    model = trained(model, tmp_path, steps=200).eval()
    x, y = images().tensors()
    with torch.no_grad():
        posteriors = model.gaussians.mixture.log_posteriors(model.encode(x).label)
        rebuilt = model(x)
        labels = torch.arange(CLASSES).repeat_interleave(20)
        drawn = model.sample(labels, generator=torch.Generator().manual_seed(0))
    assert (posteriors.argmax(1) == y).float().mean() > 0.8
    assert F.mse_loss(rebuilt, x) < 0.3 * (x - x.mean(0)).square().mean()
    level = drawn[:, 0, :6].mean(dim=(1, 2)).unflatten(0, (CLASSES, 20)).mean(dim=1)
    assert torch.corrcoef(torch.stack([level, torch.arange(8.0)]))[0, 1] > 0.9


def test_ten_steps_are_five_saved_loaded_and_five(tmp_path: Path):
    check_resume(lambda seed: toy_lr_livae(seed=seed, prior_labels="uniform"), tmp_path)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_number_formats(precision):
    model = toy_lr_livae(unlabelled="known", steps=0)
    (stage,) = model.stages()
    stage.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    data = batch(3 * BATCH + 8)
    data["label"][3 * BATCH :] = -1
    before = snapshot(model)
    logs = stage.step(stage.place(data))
    assert all(bool(value.isfinite()) for value in logs.values())
    assert moved(model, before) >= {"class_encoder", "gaussians", "decoder", *OPPONENTS}
    assert model.sample(torch.tensor([0, 1])).shape == (2, 1, 12, 12)


def test_samples_are_of_the_seed_and_codes_do_not_depend_on_the_decoder():
    model = toy_lr_livae().eval()
    labels = torch.tensor([3, 3, 0])
    first, second = (
        model.sample(labels, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    codes = model.draw_codes(labels, generator=torch.Generator().manual_seed(5))
    assert torch.equal(model.decode(codes), first)


def test_drawn_codes_have_the_moments_of_their_class():
    model = toy_lr_livae()
    with torch.no_grad():
        model.gaussians.mixture.raw_log_variances.normal_()
    codes = model.draw_codes(torch.full((20_000,), 2), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(codes.label.mean(0), model.class_vectors()[2], rtol=0, atol=0.05)
    torch.testing.assert_close(codes.label.std(0), model.class_deviations()[2], rtol=0.03, atol=0)
    torch.testing.assert_close(codes.residual.std(0), torch.ones(CONTENT_DIM), rtol=0.03, atol=0)


def test_swaps_and_reconstructions_work_on_both_codes():
    model = toy_lr_livae().eval()
    x = images().tensors(4)[0]
    assert editing.transfer(model, x[:2], x[2:]).shape == (2, 1, 12, 12)
    mean, log_variance = model.posterior(x)
    assert torch.equal(mean, model.encode(x).residual)
    assert log_variance.shape == (4, CONTENT_DIM)
    rehearse(model, images())


@pytest.mark.parametrize("labels", [torch.tensor([8]), torch.tensor([-1]), torch.zeros(2)])
def test_classes_that_do_not_exist_are_not_drawn(labels):
    with pytest.raises(UserError, match="sample"):
        toy_lr_livae().sample(labels)


def test_batch_statistics_are_an_option_and_need_two_images():
    torch.manual_seed(0)
    size = {"architecture": "mnist_small", "class_dim": 3, "content_dim": 2}
    model, x = LrLiVAE(**size, statistics="batch").eval(), torch.rand(4, 1, 28, 28)
    assert not torch.allclose(model.encode(x[:2]).label, model.encode(x).label[:2])
    with pytest.raises(UserError, match="batch statistics"):
        model.encode(x[:1])
    assert not any("running" in name for name in model.state_dict())
    model = LrLiVAE(**size).eval()
    torch.testing.assert_close(model.encode(x[:1]).label, model.encode(x).label[:1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"architecture": "vgg"}, "architecture must be one of"),
        ({"architecture": "mnist", "decoder": None}, "28 x 28"),
        ({"gan_loss": "wasserstein"}, "gan_loss must be one of log, hinge"),
        ({"adversary": "xcov"}, "adversary must be one of"),
        ({"n_gm": -1}, "n_gm must be 0 or more"),
        ({"kl_weight": float("inf")}, "kl_weight must be a finite number, got inf"),
        ({"variance_lr_milestones": (10, 5)}, r"in ascending order, .* got \(10, 5\)"),
        ({"variance_lr_milestones": (-1, 5)}, "variance_lr_milestones must be"),
        ({"batch_size": 1}, "batch_size must be 2 or more"),
        ({"betas": (0.5, 1.0)}, "betas"),
        ({"batch_norm_momentum": 0.0}, "batch_norm_momentum"),
        ({"unlabelled": "some"}, "unlabelled must be one of"),
    ],
)
def test_wrong_settings_are_named(options, words):
    with pytest.raises(UserError, match=words):
        toy_lr_livae(**options)


def small(**options) -> LrLiVAE:
    """With networks of its own, so that a run can be read back."""
    torch.manual_seed(0)
    size = {"architecture": "mnist_small", "class_dim": 3, "content_dim": 2, "n_gm": 1}
    return LrLiVAE(**(size | {"batch_size": 8, "steps": 1} | options))


class SmallImages(ToyImages):
    """The toy's quadrants on ten classes' worth of 28x28 pixels."""

    def __init__(self, *, train: int = 40, seed: int = 0) -> None:
        super().__init__(train=train, seed=seed)
        self.image_shape, self.label_names = (1, 28, 28), tuple("0123456789")

    def _draw(self, n, generator):
        data = super()._draw(n, generator)
        data.images = F.pad(data.images, (8, 8, 8, 8))
        data.labels = torch.arange(n) % 10
        return data


def test_a_run_is_fine_tuned_from_another_ones_weights(tmp_path: Path):
    loop = LoopSettings(progress=False)
    first = train(small(), SmallImages(), tmp_path / "first", loop=loop)
    start = str(tmp_path / "first")
    model = small(start_from=start, steps=0)
    tuned = train(model, SmallImages(), tmp_path / "tuned", loop=loop)
    wanted = first.state_dict()
    assert all(torch.equal(v, wanted[k]) for k, v in tuned.state_dict().items())
    again = load_run(tmp_path / "tuned").method
    assert all(torch.equal(v, wanted[k]) for k, v in again.state_dict().items())

    with pytest.raises(UserError, match=r"start_from: no run at .*; give it the folder of"):
        small(start_from=str(tmp_path / "nowhere")).meet(SmallImages().splits().train)
    with pytest.raises(CheckpointError, match=r"start_from: .* than LrLiVAE with these settings"):
        small(start_from=start, class_dim=4).meet(SmallImages().splits().train)


def test_stages_are_told_apart_by_name():
    names = [stage.name for stage in toy_lr_livae(unlabelled="known").stages()]
    assert names == ["lr_livae", "semi_supervised"]
    (only,) = toy_lr_livae(unlabelled="unknown", steps=0).stages()
    assert isinstance(only, LrLiVAEStage)
    assert only.unlabelled_batch_size == 8


def test_probes_read_what_the_adversary_reads():
    assert LrLiVAE.probes_read_samples
