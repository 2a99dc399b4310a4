from __future__ import annotations

import copy
import itertools
import math
import pickle
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, norm
from torch import Tensor
from torch.testing import assert_close

from dcorr import GaussianMixtureLoss, gm_loss, gm_loss_terms, mixture_density
from dcorr.mixture_density import (
    class_log_densities,
    class_log_posteriors,
    mixture_log_density,
    total_gaussian,
    total_log_density,
)
from tests.dcorr.sync import NoHostSync
from tests.dcorr.tolerances import tolerance

F64 = torch.float64
HALVES = [torch.float16, torch.bfloat16]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Problem(NamedTuple):
    z: Tensor
    labels: Tensor
    means: Tensor
    log_variances: Tensor
    priors: Tensor
    weights: Tensor


def draw(n: int, classes: int, dim: int, *batch: int, seed: int = 0) -> Problem:
    g = seeded(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=F64)

    return Problem(
        normal(*batch, n, dim),
        torch.randint(classes, (*batch, n), generator=g),
        normal(*batch, classes, dim),
        normal(*batch, classes, dim),
        normal(classes).square() + 0.1,
        normal(*batch, n).square(),
    )


@pytest.fixture(params=["direct", "expanded"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with either way to compute the distances."""
    limit = 2**62 if request.param == "direct" else 0
    monkeypatch.setattr(mixture_density, "DIRECT_LIMIT", limit)
    return str(request.param)


def scipy_log_densities(p: Problem) -> np.ndarray:
    columns = [
        multivariate_normal(mean.numpy(), np.diag(lv.exp().numpy())).logpdf(p.z.numpy())
        for mean, lv in zip(p.means, p.log_variances, strict=True)
    ]
    return np.stack([np.atleast_1d(column) for column in columns], axis=1)


def terms_by_loops(p: Problem, margin: float, priors: bool, weights: bool) -> tuple[float, float]:
    """The two terms as Wan et al. write them, one sample at a time, in densities."""
    classes, dim = p.means.shape
    prior = (p.priors / p.priors.sum()).tolist() if priors else [1 / classes] * classes
    weight = p.weights.tolist() if weights else [1.0] * len(p.z)
    l_cls = l_lkd = 0.0
    for z, y, w in zip(p.z.tolist(), p.labels.tolist(), weight, strict=True):
        joint, plain = [], []
        for c in range(classes):
            mean, variance = p.means[c].tolist(), p.log_variances[c].exp().tolist()
            d = sum((z[i] - mean[i]) ** 2 / variance[i] for i in range(dim)) / 2
            root = math.sqrt(math.prod(variance))
            joint.append(prior[c] / root * math.exp(-d - (margin * d if c == y else 0.0)))
            plain.append(math.exp(-d) / root / (2 * math.pi) ** (dim / 2))
        l_cls -= w * math.log(joint[y] / sum(joint))
        l_lkd -= w * math.log(plain[y])
    return l_cls / sum(weight), l_lkd / sum(weight)


# -- values ---------------------------------------------------------------------------------------

SIZES = [(1, 1, 1), (2, 2, 1), (4, 3, 2), (5, 10, 4), (25, 2, 6), (26, 5, 3)]


@pytest.mark.parametrize(("n", "classes", "dim"), SIZES)
@pytest.mark.parametrize("margin", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.parametrize("weights", [False, True])
def test_terms_match_the_definition(
    form: str, n: int, classes: int, dim: int, margin: float, priors: bool, weights: bool
) -> None:
    p = draw(n, classes, dim)
    options = {
        "margin": margin,
        "priors": p.priors if priors else None,
        "weights": p.weights if weights else None,
    }
    terms = gm_loss_terms(p.z, p.labels, p.means, p.log_variances, **options)
    expected = terms_by_loops(p, margin, priors, weights)
    for term, value in zip(terms, expected, strict=True):
        assert_close(term, torch.tensor(value, dtype=F64), **tolerance(F64, "value"))
    loss = gm_loss(p.z, p.labels, p.means, p.log_variances, likelihood_weight=0.3, **options)
    assert_close(loss, terms[0] + 0.3 * terms[1])


@pytest.mark.parametrize(("n", "classes", "dim"), [*SIZES, (40, 7, 64)])
def test_densities_match_scipy(form: str, n: int, classes: int, dim: int) -> None:
    p = draw(n, classes, dim)
    log_priors = np.log((p.priors / p.priors.sum()).numpy())
    densities = scipy_log_densities(p)
    joint = densities + log_priors
    mixture = p.z, p.means, p.log_variances
    ours = class_log_densities(*mixture)
    assert_close(ours, torch.tensor(densities), **tolerance(F64, "value"))
    ours = mixture_log_density(*mixture, priors=p.priors)
    assert_close(ours, torch.tensor(logsumexp(joint, axis=1)), **tolerance(F64, "value"))
    ours = class_log_posteriors(*mixture, priors=p.priors)
    expected = torch.tensor(joint - logsumexp(joint, axis=1, keepdims=True))
    assert_close(ours, expected, **tolerance(F64, "value"))
    ours = mixture_log_density(*mixture)
    expected = torch.tensor(logsumexp(densities, axis=1) - math.log(classes))
    assert_close(ours, expected, **tolerance(F64, "value"))


@pytest.mark.parametrize("priors", [False, True])
@pytest.mark.parametrize(("n", "classes", "dim"), SIZES)
def test_total_gaussian_is_eq_11(n: int, classes: int, dim: int, priors: bool) -> None:
    p = draw(n, classes, dim)
    w = (p.priors / p.priors.sum() if priors else torch.full((classes,), 1 / classes))[:, None]
    mu, sigma2 = p.means, p.log_variances.exp()
    mean = (w * mu).sum(0)
    variance = (w * sigma2).sum(0) + (w * mu**2).sum(0) - mean**2
    chosen = p.priors if priors else None
    ours = total_gaussian(p.means, p.log_variances, priors=chosen)
    assert_close(ours, (mean, variance), rtol=1e-7, atol=1e-9)
    reference = multivariate_normal(ours[0].numpy(), np.diag(ours[1].numpy())).logpdf(p.z.numpy())
    density = total_log_density(p.z, p.means, p.log_variances, priors=chosen)
    assert_close(density, torch.tensor(np.atleast_1d(reference)), **tolerance(F64, "value"))


def test_total_variance_does_not_cancel() -> None:
    # Σ p μ² − μ_t² in float32 would have an error of about 10⁸ · 6e-8 = 6 here.
    means = torch.tensor([[1e4 + 1.0], [1e4 - 1.0]])
    _, variance = total_gaussian(means, torch.zeros(2, 1))
    assert variance.item() == pytest.approx(2.0, rel=1e-6)


def test_total_gaussian_has_the_moments_of_samples() -> None:
    p = draw(1, 4, 3)
    gm = GaussianMixtureLoss(4, 3, priors=p.priors, dtype=F64)
    gm.load_state_dict({"means": p.means, "raw_log_variances": p.log_variances, "priors": p.priors})
    labels = torch.multinomial(p.priors, 200_000, replacement=True, generator=seeded(1))
    with torch.no_grad():
        samples, (mean, variance) = gm.sample(labels, generator=seeded(2)), gm.total_gaussian()
    # Five standard errors: of the mean σ/√n, of the variance at most about √(8/n) σ².
    assert_close(samples.mean(0) / variance.sqrt(), mean / variance.sqrt(), rtol=0, atol=0.012)
    assert_close(samples.var(0) / variance, torch.ones(3, dtype=F64), rtol=0, atol=0.032)


# -- the margin -----------------------------------------------------------------------------------


def test_without_margin_it_is_cross_entropy_of_the_posteriors(form: str) -> None:
    p = draw(9, 4, 3)
    l_cls, l_lkd = gm_loss_terms(p.z, p.labels, p.means, p.log_variances)
    posteriors = class_log_posteriors(p.z, p.means, p.log_variances)
    assert_close(l_cls, F.nll_loss(posteriors, p.labels))
    densities = class_log_densities(p.z, p.means, p.log_variances)
    assert_close(l_lkd, F.nll_loss(densities, p.labels))


def test_a_margin_moves_the_boundary() -> None:
    # Between μ = ±1 with unit variances the own class wins up to z = 0; with margin α only
    # where (1 + α)(z - 1)² < (z + 1)², that is beyond (1 + α - √(1 + α)) · 2 / α - 1 for α > 0.
    alpha = 0.44  # √(1 + α) = 1.2
    boundary = (1 + alpha - 1.2) * 2 / alpha - 1
    z, labels = torch.tensor([[boundary]], dtype=F64), torch.tensor([0])
    means, log_variances = torch.tensor([[1.0], [-1.0]], dtype=F64), torch.zeros(2, 1, dtype=F64)
    l_cls, _ = gm_loss_terms(z, labels, means, log_variances, margin=alpha)
    assert boundary > 0
    assert l_cls.item() == pytest.approx(math.log(2), rel=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 5), st.floats(0, 5), st.integers(0, 2**32))
def test_a_larger_margin_costs_more(small: float, large: float, seed: int) -> None:
    small, large = sorted((small, large))
    p = draw(6, 3, 2, seed=seed)
    losses = [
        gm_loss_terms(p.z, p.labels, p.means, p.log_variances, margin=alpha)
        for alpha in (small, large)
    ]
    assert losses[0][0] <= losses[1][0] + 1e-12
    assert_close(losses[0][1], losses[1][1])  # the likelihood knows no margin


# -- properties -----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32),
    st.floats(-1e4, 1e4),
    st.floats(-4, 4).map(lambda e: 10.0**e),
    st.floats(0, 2),
)
def test_shift_scale_and_order_of_classes(
    seed: int, shift: float, scale: float, margin: float
) -> None:
    p = draw(6, 4, 3, seed=seed)
    l_cls, l_lkd = gm_loss_terms(p.z, p.labels, p.means, p.log_variances, margin=margin)
    moved_cls, moved_lkd = gm_loss_terms(
        scale * p.z + shift,
        p.labels,
        scale * p.means + shift,
        p.log_variances + 2 * math.log(scale),
        margin=margin,
    )
    slack = 1e-9 * (1 + (shift / scale) ** 2 * 1e-3)
    assert_close(moved_cls, l_cls, rtol=1e-7, atol=slack)
    assert_close(moved_lkd, l_lkd + 3 * math.log(scale), rtol=1e-7, atol=slack)
    order = torch.randperm(4, generator=seeded(seed))
    renamed = order.argsort()[p.labels]
    other = gm_loss_terms(p.z, renamed, p.means[order], p.log_variances[order], margin=margin)
    assert_close(other, (l_cls, l_lkd), rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_integer_weights_are_replication(seed: int, counts: list[int]) -> None:
    repeats = torch.tensor([counts[0] + 1, *counts[1:]])
    p = draw(6, 3, 2, seed=seed)
    mixture = p.means, p.log_variances
    weighted = gm_loss(p.z, p.labels, *mixture, weights=repeats.double())
    z, labels = (t.repeat_interleave(repeats, 0) for t in (p.z, p.labels))
    assert_close(weighted, gm_loss(z, labels, *mixture), rtol=1e-10, atol=1e-12)


def test_posteriors_sum_to_one() -> None:
    p = draw(20, 7, 5)
    posteriors = class_log_posteriors(p.z, p.means, p.log_variances, priors=p.priors)
    assert_close(posteriors.exp().sum(-1), torch.ones(20, dtype=F64))
    assert (posteriors <= 0).all()


def test_a_class_of_probability_zero_takes_no_part() -> None:
    p = draw(6, 3, 2)
    z = p.z.requires_grad_()
    priors = torch.tensor([0.5, 0.0, 0.5], dtype=F64)
    density = mixture_log_density(z, p.means, p.log_variances, priors=priors)
    others = p.means[[0, 2]], p.log_variances[[0, 2]]
    assert_close(density, mixture_log_density(z, *others))
    (gradient,) = torch.autograd.grad(density.sum(), z)
    assert gradient.isfinite().all()


# -- logarithms, not densities --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_far_codes_keep_their_gradient(form: str, dtype: torch.dtype) -> None:
    # 512 features and 530 classes, codes so far away that every density underflows. In terms of
    # densities the loss would stand at -log 1e-4 with a gradient of 0.
    g = seeded()
    z = (20.0 * torch.randn(4, 512, generator=g)).to(dtype).requires_grad_()
    means = (0.07 * torch.randn(530, 512, generator=g)).to(dtype).requires_grad_()
    log_variances = torch.zeros(530, 512, dtype=dtype, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 529])
    l_cls, l_lkd = gm_loss_terms(z, labels, means, log_variances)
    gradients = torch.autograd.grad(l_cls, (z, means, log_variances), retain_graph=True)
    assert l_cls > 1
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 1e-4
    assert l_lkd.isfinite()


@pytest.mark.parametrize("log_variance", [-80.0, -10.0, 10.0, 80.0])
def test_tiny_and_huge_variances(form: str, log_variance: float) -> None:
    deviation = math.exp(log_variance / 2)
    z = deviation * torch.tensor([[1.0, 0.5], [-1.0, 2.0]])
    means = deviation * torch.tensor([[1.5, 0.0], [-1.0, 1.0]])
    log_variances = torch.full((2, 2), log_variance)
    for t in (z, means, log_variances):
        t.requires_grad_()
    labels = torch.tensor([0, 1])
    loss = gm_loss(z, labels, means, log_variances)
    expected = gm_loss(z.double(), labels, means.double(), log_variances.double())
    assert_close(loss.double(), expected, **tolerance(torch.float32, "value"))
    for gradient in torch.autograd.grad(loss, (z, means, log_variances)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_float32_distances_survive_cancellation(form: str, offset: float) -> None:
    # Small variances around separated means: the three terms of the expanded square are 10⁶ times
    # their sum. The float32 input is taken as exact.
    p = draw(40, 5, 64)
    means = (p.means + offset).float()
    z = (means[p.labels].double() + 1e-3 * p.z).float()
    log_variances = torch.full((5, 64), math.log(1e-6))
    ours = class_log_densities(z, means, log_variances)
    expected = class_log_densities(z.double(), means.double(), log_variances.double())
    own, expected_own = (t.gather(1, p.labels[:, None]) for t in (ours.double(), expected))
    assert_close(own, expected_own, rtol=1e-5, atol=1e-3)


def test_the_form_is_chosen_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Tensor) -> Tensor:
        raise AssertionError("the wrong form ran")

    small, large = draw(96, 10, 8), draw(96, 530, 32)
    with monkeypatch.context() as m:
        m.setattr(mixture_density, "_expanded_distances", refuse)
        gm_loss(small.z, small.labels, small.means, small.log_variances)
    monkeypatch.setattr(mixture_density, "_direct_distances", refuse)
    gm_loss(large.z, large.labels, large.means, large.log_variances)


# -- shapes and dtypes ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)])
def test_batch_is_a_loop_over_problems(form: str, batch: tuple[int, ...]) -> None:
    p = draw(5, 3, 2, *batch)
    losses = gm_loss(*p[:4], priors=p.priors, weights=p.weights, margin=0.2)
    assert losses.shape == batch
    for i in itertools.product(*map(range, batch)):
        one = gm_loss(*(t[i] for t in p[:4]), priors=p.priors, weights=p.weights[i], margin=0.2)
        assert_close(losses[i], one)
    densities = class_log_densities(p.z, p.means, p.log_variances)
    assert densities.shape == (*batch, 5, 3)
    assert total_log_density(p.z, p.means, p.log_variances).shape == (*batch, 5)


def test_batch_dimensions_broadcast() -> None:
    p, many = draw(5, 3, 2), draw(5, 3, 2, 4)
    shared = gm_loss(many.z, p.labels, p.means, p.log_variances, weights=p.weights)
    assert shared.shape == (4,)
    one = gm_loss(many.z[1], p.labels, p.means, p.log_variances, weights=p.weights)
    assert_close(shared[1], one)
    labelled = gm_loss(p.z, many.labels, p.means, p.log_variances, margin=0.1)
    assert_close(labelled[2], gm_loss(p.z, many.labels[2], p.means, p.log_variances, margin=0.1))


def test_shapes_on_the_meta_device() -> None:
    with torch.device("meta"):
        gm, z, labels = GaussianMixtureLoss(3, 2), torch.empty(4, 5, 2), torch.zeros(5, dtype=int)
    assert gm(z, labels).shape == ()
    assert gm.log_posteriors(z).shape == (4, 5, 3)
    assert gm.log_density(z).shape == gm.total_log_density(z).shape == (4, 5)


def test_a_vector_is_a_column_and_labels_have_any_integer_dtype() -> None:
    p = draw(5, 3, 1)
    expected = gm_loss(p.z, p.labels, p.means, p.log_variances)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        loss = gm_loss(p.z[:, 0], p.labels.to(dtype), p.means, p.log_variances)
        assert_close(loss, expected)


@pytest.mark.parametrize("kind", ["transposed", "strided", "expanded"])
def test_memory_layout_does_not_matter(form: str, kind: str) -> None:
    p = draw(8, 3, 4)
    g = seeded(1)
    z = {
        "transposed": torch.randn(4, 8, generator=g, dtype=F64).mT,
        "strided": torch.randn(16, 8, generator=g, dtype=F64)[::2, ::2],
        "expanded": torch.randn(1, 4, generator=g, dtype=F64).expand(8, 4),
    }[kind]
    assert_close(
        gm_loss(z, p.labels, p.means, p.log_variances),
        gm_loss(z.clone().contiguous(), p.labels, p.means, p.log_variances),
    )


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, F64])
def test_dtypes(form: str, dtype: torch.dtype) -> None:
    p = draw(30, 4, 5)
    z, means, log_variances, priors, weights = (
        t.to(dtype) for t in (p.z, p.means, p.log_variances, p.priors, p.weights)
    )
    options = {"margin": 0.1, "priors": priors, "weights": weights}
    loss = gm_loss(z, p.labels, means, log_variances, **options)
    assert loss.dtype == dtype
    wide = {k: v.double() if isinstance(v, Tensor) else v for k, v in options.items()}
    expected = gm_loss(z.double(), p.labels, means.double(), log_variances.double(), **wide)
    # L_cls and L_lkd are rounded to the dtype, and so is their sum.
    tol = {k: 3 * v for k, v in tolerance(dtype, "value").items()}
    assert_close(loss.double(), expected, **tol)


@pytest.mark.parametrize("dtype", HALVES)
def test_autocast_computes_in_float32(form: str, dtype: torch.dtype) -> None:
    gm = GaussianMixtureLoss(4, 5, margin=0.1)
    p = draw(30, 4, 5)
    z = p.z.to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        inside = [gm(z, p.labels), gm.log_posteriors(z), gm.log_density(z), gm.total_log_density(z)]
    outside = [
        gm(z.float(), p.labels),
        gm.log_posteriors(z.float()),
        gm.log_density(z.float()),
        gm.total_log_density(z.float()),
    ]
    for a, b in zip(inside, outside, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 5, 25, 26, 40])
def test_gradcheck(form: str, n: int) -> None:
    p = draw(n, 3, 2)
    p.z[1] = p.z[0]  # coincident points
    p.z[2] = p.means[0]  # and one on a mean
    inputs = [p.z, p.means, p.log_variances, p.priors, p.weights + 0.1]
    for t in inputs:
        t.requires_grad_()

    def loss(z: Tensor, m: Tensor, lv: Tensor, priors: Tensor, w: Tensor) -> Tensor:
        return gm_loss(z, p.labels, m, lv, margin=0.3, priors=priors, weights=w)

    assert torch.autograd.gradcheck(loss, inputs, fast_mode=n > 10)
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize(
    "function", [class_log_densities, class_log_posteriors, mixture_log_density, total_log_density]
)
def test_gradcheck_of_the_densities(form: str, function: Callable[..., Tensor]) -> None:
    p = draw(5, 3, 2)
    inputs = [t.requires_grad_() for t in (p.z, p.means, p.log_variances)]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_forms_agree_in_the_gradient() -> None:
    p = draw(9, 4, 3)
    results = []
    for form in (mixture_density._direct_distances, mixture_density._expanded_distances):
        inputs = [t.detach().requires_grad_() for t in (p.z, p.means, p.log_variances)]
        value = form(*inputs)
        results.append((value, *torch.autograd.grad(value.square().sum(), inputs)))
    assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3)))
def test_any_argument_may_need_a_gradient(needs: tuple[bool, bool, bool]) -> None:
    p = draw(5, 3, 2)
    inputs = [p.z, p.means, p.log_variances]
    for t, need in zip(inputs, needs, strict=True):
        t.requires_grad_(need)
    loss = gm_loss(p.z, p.labels, p.means, p.log_variances, margin=0.1)
    assert loss.requires_grad == any(needs)
    if any(needs):
        loss.backward()
    assert tuple(t.grad is not None for t in inputs) == needs


def test_nan_comes_out_unless_asked_for() -> None:
    p = draw(6, 3, 2)
    p.z[2, 1] = torch.nan
    assert gm_loss(p.z, p.labels, p.means, p.log_variances).isnan()
    with pytest.raises(ValueError, match=r"z must be finite, got NaN or infinity"):
        gm_loss(p.z, p.labels, p.means, p.log_variances, check_finite=True)
    gm = GaussianMixtureLoss(3, 2, check_finite=True, dtype=F64)
    with pytest.raises(ValueError, match=r"z must be finite"):
        gm(p.z, p.labels)


# -- torch's transformations ----------------------------------------------------------------------


def test_compiles_without_a_graph_break(form: str) -> None:
    torch._dynamo.reset()
    p = draw(6, 4, 3)
    gm = GaussianMixtureLoss(4, 3, margin=0.2, priors=p.priors.tolist(), dtype=F64)

    def everything(z: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        densities = gm.log_posteriors(z), gm.log_density(z), gm.total_log_density(z)
        return (gm(z, y), *gm.terms(z, y, weights=p.weights), *densities, *gm.total_gaussian())

    compiled = torch.compile(everything, fullgraph=True, backend="aot_eager")
    values = compiled(p.z, p.labels)
    assert_close(values, everything(p.z, p.labels))
    values[0].backward()
    assert gm.raw_log_variances.grad is not None
    sample = torch.compile(gm.sample, fullgraph=True, backend="aot_eager")
    torch.manual_seed(0)
    drawn = sample(p.labels)
    torch.manual_seed(0)
    assert_close(drawn, gm.sample(p.labels))


def test_vmap_and_grad(form: str) -> None:
    p = draw(5, 3, 2, 4)

    def loss(z: Tensor, y: Tensor, m: Tensor, lv: Tensor, w: Tensor) -> Tensor:
        return gm_loss(z, y, m, lv, margin=0.3, weights=w)

    inputs = (p.z, p.labels, p.means, p.log_variances, p.weights)
    assert_close(torch.vmap(loss)(*inputs), loss(*inputs))
    gradients = torch.vmap(torch.func.grad(loss, argnums=(0, 2, 3)))(*inputs)
    leaves = [t.requires_grad_() for t in (p.z, p.means, p.log_variances)]
    expected = torch.autograd.grad(loss(*inputs).sum(), leaves)
    assert_close(gradients, expected)


def test_a_stack_of_modules_by_functional_call() -> None:
    p = draw(5, 3, 2, 4)
    gms = [GaussianMixtureLoss(3, 2, dtype=F64) for _ in range(4)]
    params, buffers = torch.func.stack_module_state(gms)

    def loss(params: dict[str, Tensor], z: Tensor, y: Tensor) -> Tensor:
        return torch.func.functional_call(gms[0], (params, buffers), (z, y))

    values = torch.vmap(loss)(params, p.z, p.labels)
    assert_close(values[2], gms[2](p.z[2], p.labels[2]))


def test_no_host_sync(form: str) -> None:
    p = draw(6, 4, 3)
    gm = GaussianMixtureLoss(4, 3, margin=0.2, priors=p.priors, dtype=F64)
    with NoHostSync():
        loss = gm(p.z, p.labels, weights=p.weights) - gm.log_density(p.z).mean()
        loss = loss - gm.total_log_density(p.z).mean() + gm.sample(p.labels).sum()
        loss.backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_matches_the_cpu_and_does_not_wait(form: str) -> None:
    p = draw(60, 4, 3)
    gm = GaussianMixtureLoss(4, 3, margin=0.2, priors=p.priors)
    z = p.z.float()
    expected = gm(z, p.labels), gm.log_density(z), gm.total_log_density(z)
    gm, z, labels = gm.cuda(), z.cuda().requires_grad_(), p.labels.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        values = gm(z, labels), gm.log_density(z), gm.total_log_density(z)
        (sum(v.sum() for v in values) + gm.sample(labels).sum()).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for value, reference in zip(values, expected, strict=True):
        assert_close(value.cpu(), reference, **tolerance(torch.float32, "value"))


# -- the module -----------------------------------------------------------------------------------


def test_module_mirrors_the_functions() -> None:
    p = draw(5, 3, 2, 4)
    options = {"margin": 0.2, "likelihood_weight": 0.7}
    for reduction in ("mean", "sum", "none"):
        gm = GaussianMixtureLoss(3, 2, priors=p.priors, reduction=reduction, dtype=F64, **options)
        mixture = gm.means, gm.log_variances
        expected = gm_loss(p.z, p.labels, *mixture, priors=p.priors, weights=p.weights, **options)
        reduced = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
        assert_close(gm(p.z, p.labels, weights=p.weights), reduced)
        l_cls, l_lkd = gm.terms(p.z, p.labels, weights=p.weights)
        assert_close(l_cls + 0.7 * l_lkd, reduced)
    for ours, function in (
        (gm.log_posteriors, class_log_posteriors),
        (gm.log_density, mixture_log_density),
        (gm.total_log_density, total_log_density),
    ):
        assert_close(ours(p.z), function(p.z, *mixture, priors=p.priors))
    assert_close(gm.total_gaussian(), total_gaussian(*mixture, priors=p.priors))


def test_module_starts_as_documented_and_round_trips() -> None:
    torch.manual_seed(0)
    gm = GaussianMixtureLoss(50, 30, margin=0.1, priors=[1.0] * 49 + [2.0])
    assert gm.means.abs().max() <= math.sqrt(6 / 80)
    assert gm.means.std().item() == pytest.approx(math.sqrt(2 / 80), rel=0.1)
    assert_close(gm.log_variances.exp(), torch.full((50, 30), 1.0 + 1e-6))
    assert sorted(gm.state_dict()) == ["means", "priors", "raw_log_variances"]
    assert sorted(GaussianMixtureLoss(2, 1).state_dict()) == ["means", "raw_log_variances"]
    other = GaussianMixtureLoss(50, 30, margin=0.1, priors=[1.0] * 50)
    other.load_state_dict(gm.state_dict())
    z, labels = torch.randn(6, 30), torch.arange(44, 50)
    for twin in (other, pickle.loads(pickle.dumps(gm)), copy.deepcopy(gm)):
        assert torch.equal(twin(z, labels), gm(z, labels))
        assert repr(twin) == repr(gm)
    assert repr(gm) == (
        "GaussianMixtureLoss(num_classes=50, dim=30, margin=0.1, likelihood_weight=0.1, "
        "min_variance=1e-06, reduction='mean', check_finite=False)"
    )


def test_the_defaults_are_the_papers() -> None:
    gm = GaussianMixtureLoss(2, 1)
    assert (gm.margin, gm.likelihood_weight, gm.priors) == (0.0, 0.1, None)


@pytest.mark.parametrize("floor", [0.0, 1e-6, 0.5])
def test_variances_keep_their_floor(floor: float) -> None:
    gm = GaussianMixtureLoss(2, 3, min_variance=floor, dtype=F64)
    raw = torch.linspace(-50.0, 5.0, 6, dtype=F64).reshape(2, 3)
    with torch.no_grad():
        gm.raw_log_variances.copy_(raw)
    assert_close(gm.log_variances.exp(), floor + raw.exp(), rtol=1e-12, atol=0.0)
    (gradient,) = torch.autograd.grad(gm.log_variances.sum(), gm.raw_log_variances)
    assert (gradient > 0).all()  # no variance is stuck at the floor


def test_collapsing_codes_stay_finite() -> None:
    gm = GaussianMixtureLoss(2, 3)
    z = gm.means.detach()[torch.tensor([0, 0, 1, 1])].clone().requires_grad_()
    with torch.no_grad():
        gm.raw_log_variances.fill_(-1e4)
    loss = gm(z, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.isfinite()
    for t in (z, gm.means, gm.raw_log_variances):
        assert t.grad is not None
        assert t.grad.isfinite().all()


def test_likelihood_is_flat_at_the_maximum_likelihood_estimate() -> None:
    # Class means and (biased) class variances are where the likelihood term has its minimum.
    p = draw(60, 3, 2)
    gm = GaussianMixtureLoss(3, 2, min_variance=0.0, dtype=F64)
    with torch.no_grad():
        for c in range(3):
            gm.means[c] = p.z[p.labels == c].mean(0)
            gm.raw_log_variances[c] = p.z[p.labels == c].var(0, correction=0).log()
    _, l_lkd = gm.terms(p.z, p.labels)
    for gradient in torch.autograd.grad(l_lkd, list(gm.parameters())):
        assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-14)


def test_learns_to_tell_classes_apart() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
    labels = torch.arange(90) % 3
    x = centres[labels] + torch.randn(90, 2)
    gm = GaussianMixtureLoss(3, 2, margin=0.1)
    optimizer = torch.optim.Adam(gm.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        gm(x, labels).backward()
        optimizer.step()
    assert (gm.log_posteriors(x).argmax(-1) == labels).float().mean() > 0.95
    known, unknown = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, -9.0]])
    assert gm.log_density(known) > gm.log_density(unknown) + 5


# -- sampling -------------------------------------------------------------------------------------


def test_samples_follow_their_class() -> None:
    gm = GaussianMixtureLoss(3, 2, dtype=F64)
    with torch.no_grad():
        gm.raw_log_variances.copy_(torch.tensor([[0.0, 2.0], [-2.0, 1.0], [0.5, 0.5]]))
        labels = torch.arange(3).repeat(3000)
        samples = gm.sample(labels, generator=seeded(3))
    for c, i in itertools.product(range(3), range(2)):
        law = norm(gm.means[c, i].item(), math.exp(gm.log_variances[c, i].item() / 2))
        assert kstest(samples[labels == c, i].numpy(), law.cdf).pvalue > 0.01


def test_samples_repeat_with_the_generator_and_carry_a_gradient() -> None:
    gm = GaussianMixtureLoss(3, 2, dtype=F64)
    labels = torch.tensor([[2, 0], [1, 1]])
    state = torch.get_rng_state()
    first = gm.sample(labels, generator=seeded(1))
    assert first.shape == (2, 2, 2)
    assert torch.equal(first, gm.sample(labels, generator=seeded(1)))
    assert torch.equal(torch.get_rng_state(), state)
    gradients = torch.autograd.grad(first.sum(), list(gm.parameters()))
    counts = torch.tensor([1.0, 2.0, 1.0], dtype=F64)[:, None].expand(3, 2)
    assert_close(gradients[0], counts)
    assert gradients[1].abs().min() > 0


@pytest.mark.parametrize("labels", [[0, 3], [0, -1]])
def test_labels_out_of_range_raise_on_the_cpu(labels: list[int]) -> None:
    gm = GaussianMixtureLoss(3, 2)
    with pytest.raises(RuntimeError, match="out of bounds"):
        gm(torch.zeros(2, 2), torch.tensor(labels))
    with pytest.raises(IndexError, match="out of range"):
        gm.sample(torch.tensor(labels))


# -- wrong calls ----------------------------------------------------------------------------------

Z, L, M = torch.zeros(4, 2), torch.zeros(4, dtype=torch.long), torch.zeros(3, 2)
GM = GaussianMixtureLoss(3, 2)
WRONG: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    ("z type", lambda: gm_loss([0.0], L, M, M), TypeError, r"z must be a torch.Tensor, got list"),
    ("z integer", lambda: gm_loss(Z.int(), L, M, M), TypeError, r"z must have a floating-point"),
    ("z scalar", lambda: gm_loss(Z[0, 0], L, M, M), ValueError, r"z must have shape \(n,\) or"),
    ("no samples", lambda: gm_loss(Z[:0], L, M, M), ValueError, r"z must have at least 1 samples"),
    ("features", lambda: gm_loss(Z[:, :1], L, M, M), ValueError, r"features, got 1 and 2"),
    ("means type", lambda: gm_loss(Z, L, None, M), TypeError, r"means must be a torch.Tensor"),
    (
        "means shape",
        lambda: gm_loss(Z, L, M[0], M[0]),
        ValueError,
        r"means must have shape \(\*batch, C, d\), C and d at least 1, got \(2,\)",
    ),
    ("no classes", lambda: gm_loss(Z, L, M[:0], M[:0]), ValueError, r"C and d at least 1, got"),
    (
        "variances shape",
        lambda: gm_loss(Z, L, M, M[:2]),
        ValueError,
        r"log_variances must have the shape of means, \(3, 2\), got \(2, 2\)",
    ),
    (
        "variances dtype",
        lambda: gm_loss(Z, L, M, M.double()),
        TypeError,
        r"means and log_variances must have the same dtype",
    ),
    ("z dtype", lambda: gm_loss(Z.double(), L, M, M), TypeError, r"z and means must have the same"),
    ("z device", lambda: gm_loss(Z, L, M.to("meta"), M.to("meta")), ValueError, r"same device"),
    (
        "batches",
        lambda: gm_loss(Z.expand(2, 4, 2), L, M.expand(3, 3, 2), M.expand(3, 3, 2)),
        ValueError,
        r"z and means need batch dimensions that broadcast together",
    ),
    ("labels type", lambda: gm_loss(Z, [0], M, M), TypeError, r"labels must be a torch.Tensor"),
    (
        "labels float",
        lambda: gm_loss(Z, L.float(), M, M),
        TypeError,
        r"labels must have an integer dtype, got torch.float32",
    ),
    (
        "labels bool",
        lambda: gm_loss(Z, L.bool(), M, M),
        TypeError,
        r"integer dtype, got torch.bool",
    ),
    (
        "labels shape",
        lambda: gm_loss(Z, L[:3], M, M),
        ValueError,
        r"labels must have shape \(n,\) or \(\*batch, n\) with n = 4, got \(3,\)",
    ),
    (
        "labels column",
        lambda: gm_loss(Z, L[:, None], M, M),
        ValueError,
        r"with n = 4, got \(4, 1\)",
    ),
    (
        "labels batch",
        lambda: gm_loss(Z.expand(2, 4, 2), L.expand(3, 4), M, M),
        ValueError,
        r"z and labels need batch dimensions",
    ),
    ("labels device", lambda: gm_loss(Z, L.to("meta"), M, M), ValueError, r"device cpu, got meta"),
    (
        "margin",
        lambda: gm_loss(Z, L, M, M, margin=-0.1),
        ValueError,
        r"margin must be in \[0, inf\)",
    ),
    ("margin type", lambda: gm_loss(Z, L, M, M, margin="0"), TypeError, r"margin must be a number"),
    (
        "likelihood weight",
        lambda: gm_loss(Z, L, M, M, likelihood_weight=-1),
        ValueError,
        r"likelihood_weight must be in \[0, inf\), got -1",
    ),
    (
        "priors",
        lambda: gm_loss(Z, L, M, M, priors=torch.ones(2)),
        ValueError,
        r"priors must have one number per class, shape \(3,\), got \(2,\)",
    ),
    (
        "priors list",
        lambda: gm_loss(Z, L, M, M, priors=[1] * 3),
        TypeError,
        r"priors must be a torch",
    ),
    (
        "weights",
        lambda: gm_loss(Z, L, M, M, weights=torch.ones(3)),
        ValueError,
        r"weights must have shape \(n,\) or \(\*batch, n\) with n = 4, got \(3,\)",
    ),
    ("flag", lambda: gm_loss(Z, L, M, M, check_finite=0), TypeError, r"check_finite must be True"),
    ("classes", lambda: GaussianMixtureLoss(0, 2), ValueError, r"num_classes must be at least 1"),
    ("classes type", lambda: GaussianMixtureLoss(2.0, 2), TypeError, r"num_classes must be an int"),
    ("dim", lambda: GaussianMixtureLoss(2, 0), ValueError, r"dim must be at least 1, got 0"),
    (
        "module priors",
        lambda: GaussianMixtureLoss(3, 2, priors=[0.5, 0.5]),
        ValueError,
        r"priors must have one number per class, shape \(3,\), got \(2,\)",
    ),
    (
        "floor",
        lambda: GaussianMixtureLoss(3, 2, min_variance=-1.0),
        ValueError,
        r"min_variance must be in \[0, inf\), got -1.0",
    ),
    (
        "reduction",
        lambda: GaussianMixtureLoss(3, 2, reduction=""),
        ValueError,
        r"reduction must be",
    ),
    ("sample labels", lambda: GM.sample(Z), TypeError, r"labels must have an integer dtype"),
    ("sample list", lambda: GM.sample([0]), TypeError, r"labels must be a torch.Tensor, got list"),
    (
        "sample generator",
        lambda: GM.sample(L, generator=3),
        TypeError,
        r"generator must be a torch.Generator, got int",
    ),
    ("density dim", lambda: GM.log_density(Z[:, :1]), ValueError, r"features, got 1 and 2"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_calls(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
