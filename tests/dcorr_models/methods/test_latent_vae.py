"""VAEs of independent dimensions: losses against distributions and loops, who learns from what."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from dcorr import dcor2, dcov2
from dcorr_models.errors import UserError
from dcorr_models.methods import DIPVAE, BetaTCVAE, BetaVAE, DCovVAE, FactorVAE
from dcorr_models.methods.beta_tcvae import kl_terms
from dcorr_models.methods.dcov_vae import pairwise_dependence
from dcorr_models.methods.dip_vae import code_covariance
from dcorr_models.methods.factor_vae import shuffled
from dcorr_models.methods.latent_variable import Gaussian
from dcorr_models.training.logs import read_log
from tests.dcorr_models.methods import latent_toys as toys

METHODS = [BetaVAE, FactorVAE, BetaTCVAE, DIPVAE, DCovVAE]
N, D = 6, 3


def posterior(seed: int = 0) -> tuple[Gaussian, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mean, logvar, noise = torch.randn(3, N, D, generator=generator, dtype=torch.float64)
    return Gaussian(mean, logvar), mean + (logvar / 2).exp() * noise


def toy(method, **options):
    small = {"critic_width": 8} if method is FactorVAE else {}
    return toys.toy(method, **(small | options))


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_loss_and_gradients_are_those_of_the_bound(likelihood):
    model, x = toy(BetaVAE, beta=3.0, likelihood=likelihood), toys.batch()["image"]
    ours = copy.deepcopy(model).double()
    torch.manual_seed(3)
    logs = toys.prepared(model).step({"image": x})
    torch.manual_seed(3)
    noise = torch.randn(toys.BATCH, toys.LATENT).double()
    mean, logvar = ours.encoder(x.double()).chunk(2, dim=1)
    q = Normal(mean, (logvar / 2).exp())
    logits = ours.decoder(q.loc + q.scale * noise)
    if likelihood == "bernoulli":
        p = logits.sigmoid()
        error = -(x * p.log() + (1 - x) * (1 - p).log()).sum() / toys.BATCH
    else:
        error = (logits.sigmoid() - x).square().sum() / toys.BATCH
    kl = kl_divergence(q, Normal(torch.zeros_like(mean), 1.0)).sum() / toys.BATCH
    assert logs["loss/reconstruction"].item() == pytest.approx(error.item(), rel=1e-5)
    assert logs["loss/kl"].item() == pytest.approx(kl.item(), rel=1e-4)
    assert logs["loss/pixel"].item() == pytest.approx(
        (logits.sigmoid() - x).square().mean().item(), rel=1e-5
    )
    (error + 3.0 * kl).backward()
    reference = dict(ours.named_parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad.double(), reference[name].grad, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(("step", "capacity"), [(0, 0.0), (30, 1.5), (200, 5.0)])
def test_capacity_grows_to_its_end(step, capacity):
    model = toy(BetaVAE, beta=10.0, capacity=5.0, capacity_steps=100)
    q, c = posterior()
    penalty = model.penalty(q, c, step)
    kl = model.penalty(q, c, 0).parts["kl"].item()
    assert penalty.loss.item() == pytest.approx(10.0 * abs(kl - capacity))


def weighted_density(j: int, i: int, n: int, sampling: str) -> float:
    """What image j of a batch of N counts for code i."""
    if sampling == "minibatch_weighted":
        return 1 / (n * N)
    others = N - 1
    if j == i:
        return 1 / n
    return (n - others) / (n * others) if j == (i + 1) % N else 1 / others


@pytest.mark.parametrize("sampling", ["minibatch_weighted", "minibatch_stratified"])
def test_kl_terms_are_those_of_loops_over_densities(sampling):
    (q, c), n = posterior(), 40
    density = Normal(q.mean, (q.logvar / 2).exp())
    log_q = [[density.log_prob(c[i])[j] for j in range(N)] for i in range(N)]  # (D,) each
    joint, marginals, own, prior = 0.0, 0.0, 0.0, 0.0
    for i in range(N):
        weights = [weighted_density(j, i, n, sampling) for j in range(N)]
        if sampling == "minibatch_stratified":
            assert sum(weights) == pytest.approx(1.0)
        joint += math.log(sum(w * log_q[i][j].sum().exp() for j, w in enumerate(weights)))
        for d in range(D):
            marginals += math.log(sum(w * log_q[i][j][d].exp() for j, w in enumerate(weights)))
        own += log_q[i][i].sum()
        prior += Normal(0.0, 1.0).log_prob(c[i]).sum()
    terms = kl_terms(q, c, n, sampling)
    wanted = ((own - joint) / N, (joint - marginals) / N, (marginals - prior) / N)
    for term, value in zip(terms, wanted, strict=True):
        assert term.item() == pytest.approx(float(value), rel=1e-9)


def test_beta_tcvae_weighs_each_term():
    q, c = posterior()
    terms = kl_terms(q, c, 96, "minibatch_weighted")
    for name, weight in {"alpha": 0, "beta": 1, "gamma": 2}.items():
        zeros = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}
        penalty = toy(BetaTCVAE, **(zeros | {name: 2.0})).penalty(q, c, 0)
        assert penalty.loss.item() == pytest.approx(2 * terms[weight].item())


@pytest.mark.parametrize("form", ["I", "II"])
def test_dip_penalty_is_that_of_loops(form):
    q, c = posterior()
    covariance = [[0.0] * D for _ in range(D)]
    means = [q.mean[:, d].mean() for d in range(D)]
    for d in range(D):
        for e in range(D):
            covariance[d][e] = (
                sum((q.mean[i, d] - means[d]) * (q.mean[i, e] - means[e]) for i in range(N)).item()
                / N
            )
        if form == "II":
            covariance[d][d] += q.logvar[:, d].exp().mean().item()
    torch.testing.assert_close(code_covariance(q, form), torch.tensor(covariance).double())
    off = sum(covariance[d][e] ** 2 for d in range(D) for e in range(D) if d != e)
    on = sum((covariance[d][d] - 1) ** 2 for d in range(D))
    penalty = toy(DIPVAE, form=form, off_diagonal_weight=2.0).penalty(q, c, 0)
    kl = penalty.parts["kl"].item()
    wanted = kl + 2 * off + (20 if form == "I" else 2) * on
    assert penalty.loss.item() == pytest.approx(wanted)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize(("name", "statistic"), [("dcov2", dcov2), ("dcor2", dcor2)])
def test_dependence_is_the_mean_over_pairs(name, statistic, unbiased):
    _, c = posterior()
    pairs = [(d, e) for d in range(D) for e in range(d + 1, D)]
    wanted = sum(statistic(c[:, d], c[:, e], unbiased=unbiased) for d, e in pairs) / len(pairs)
    got = pairwise_dependence(c, name, unbiased=unbiased)
    torch.testing.assert_close(got, wanted)
    assert torch.autograd.gradcheck(
        lambda c: pairwise_dependence(c, name, unbiased=unbiased), c.requires_grad_()
    )


def test_shuffled_keeps_marginals_and_breaks_dependence():
    torch.manual_seed(0)
    c = torch.arange(500.0)[:, None].expand(-1, 2)
    apart = shuffled(c)
    assert torch.equal(apart.sort(dim=0).values, c)
    assert abs(torch.corrcoef(apart.T)[0, 1]) < 0.2


def test_total_correlation_moves_encoder_alone_and_cross_entropy_the_critic_alone():
    for player, networks in {"autoencoder": {"encoder", "decoder"}, "critic": {"critic"}}.items():
        model = toy(FactorVAE, gamma=2.0)
        stage, before = toys.prepared(model), copy.deepcopy(model.state_dict())
        update = stage.update
        stage.update = lambda name, loss, update=update, player=player, **rest: (
            update(name, loss, **rest) if name == player else None
        )
        stage.step(toys.batch(2 * toys.BATCH))
        moved = {k.split(".")[0] for k, v in model.state_dict().items() if (v != before[k]).any()}
        assert moved == networks


def test_factor_losses_are_those_of_the_formula():
    model, x = toy(FactorVAE, gamma=2.0), toys.batch(2 * toys.BATCH)["image"]
    ours = copy.deepcopy(model)
    torch.manual_seed(3)
    logs = toys.prepared(model).step({"image": x})
    torch.manual_seed(3)
    q = ours.posterior(x[: toys.BATCH])
    c = q.draw()
    ratio = ours.critic(c).diff(dim=1).neg().mean()
    assert logs["loss/total_correlation"].item() == pytest.approx(ratio.item(), rel=1e-5)
    error = F.binary_cross_entropy_with_logits(ours.decoder(c), x[: toys.BATCH], reduction="sum")
    gradient = torch.autograd.grad(
        error / toys.BATCH + logs["loss/kl"] * 0 + 2 * ratio + _kl(q), ours.encoder[1].weight
    )[0]
    torch.testing.assert_close(model.encoder[1].weight.grad, gradient, rtol=1e-4, atol=1e-5)
    # the critic's half: the encoder as it is after its update, the critic as it was before
    with torch.no_grad():
        others = shuffled(model.posterior(x[toys.BATCH :]).draw())
    cost = 0.5 * (
        F.cross_entropy(ours.critic(c.detach()), torch.zeros(toys.BATCH, dtype=torch.int64))
        + F.cross_entropy(ours.critic(others), torch.ones(toys.BATCH, dtype=torch.int64))
    )
    assert logs["loss/critic"].item() == pytest.approx(cost.item(), rel=1e-5)


def _kl(q: Gaussian) -> Tensor:
    prior = Normal(torch.zeros_like(q.mean), 1.0)
    return kl_divergence(Normal(q.mean, (q.logvar / 2).exp()), prior).sum(1).mean()


@pytest.mark.parametrize("method", METHODS)
def test_ten_steps_are_five_saved_loaded_and_five_more(tmp_path: Path, method):
    whole = toys.trained(toy(method), tmp_path / "whole", steps=10).state_dict()
    toys.trained(toy(method), tmp_path / "parts", steps=5)
    torch.rand(17)  # whatever happens to the random state in between
    resumed = toys.trained(toy(method, seed=99), tmp_path / "parts", steps=10).state_dict()
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


@pytest.mark.parametrize("method", METHODS)
def test_reconstructions_get_better(tmp_path: Path, method):
    weaker = {
        BetaVAE: {"beta": 1.0},
        BetaTCVAE: {"beta": 1.0},
        DCovVAE: {"dependence_weight": 45.0},
    }
    toys.trained(toy(method, **weaker.get(method, {})), tmp_path, steps=50)
    rows = [r["value"] for r in read_log(tmp_path / "log.csv") if r["name"] == "loss/pixel"]
    assert sum(rows[-10:]) < 0.65 * sum(rows[:10])


class TwoProcesses:
    """What a stage asks of Fabric, on one of two processes."""

    world_size = 2

    def __init__(self, rank: int, shares: list[Tensor]) -> None:
        self.global_rank, self.shares = rank, shares

    def all_gather(self, rows: Tensor) -> Tensor:
        assert torch.equal(rows, self.shares[self.global_rank])
        return torch.stack(self.shares)


def test_rows_of_all_give_value_and_gradient_of_a_single_process():
    _, c = posterior()

    def loss(c: Tensor) -> Tensor:
        return pairwise_dependence(c, "dcor2")

    whole = c.clone().requires_grad_()
    loss(whole).backward()
    shares = [c[: N // 2], c[N // 2 :]]
    for rank, share in enumerate(shares):
        stage, own = toys.prepared(toy(DCovVAE)), share.clone().requires_grad_()
        stage.fabric = TwoProcesses(rank, shares)
        both = stage.rows_of_all(own)
        assert torch.equal(both, c)
        loss(both).backward()
        # DDP takes the mean over the processes
        torch.testing.assert_close(own.grad / 2, whole.grad[rank * N // 2 :][: N // 2])


def test_initial_weights_are_those_of_the_release():
    torch.manual_seed(0)
    model = BetaVAE()
    weights = torch.cat([p.flatten() for n, p in model.named_parameters() if "weight" in n])
    assert weights.std().item() == pytest.approx(0.02, rel=0.01)
    assert all(not p.any() for n, p in model.named_parameters() if "bias" in n)
    own = BetaVAE(initialisation="default")
    assert any(p.any() for n, p in own.named_parameters() if "bias" in n)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        (BetaVAE, {"likelihood": "laplace"}, "likelihood must be one of bernoulli, gaussian"),
        (BetaVAE, {"beta": -1.0}, "beta must be 0 or more"),
        (BetaVAE, {"capacity": math.nan}, "capacity must be 0 or more"),
        (BetaVAE, {"latent_dim": 0}, "latent_dim must be 1 or more"),
        (BetaVAE, {"encoder": None, "decoder": None}, r"image_shape \(1, 12, 12\)"),
        (FactorVAE, {"critic_betas": (1.0, 0.9)}, "betas must be two numbers"),
        (FactorVAE, {"gamma": -1.0}, "gamma must be 0 or more"),
        (BetaTCVAE, {"sampling": "exact"}, "sampling must be one of"),
        (BetaTCVAE, {"batch_size": 1}, "batch_size must be 2 or more"),
        (DIPVAE, {"form": "III"}, "form must be one of I, II"),
        (DCovVAE, {"statistic": "hsic"}, "statistic must be one of dcov2, dcor2"),
        (DCovVAE, {"latent_dim": 1}, "latent_dim must be 2 or more"),
    ],
)
def test_wrong_settings_are_named(method, options, said):
    with pytest.raises(UserError, match=said):
        toy(method, **options)


def test_shared_networks_are_refused():
    net = nn.Linear(2, 2)
    with pytest.raises(UserError, match="share parameters"):
        toy(FactorVAE, critic=nn.Sequential(net), decoder=net)
