from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from dcorr import AsymmetricNoise, asymmetric_noise
from tests.dcorr.sync import NoHostSync
from tests.dcorr.tolerances import tolerance

F64 = torch.float64


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64).to(dtype)


def penalty_by_loops(z: Tensor, decay: float) -> float:
    rows = z.double().tolist()
    return decay * sum(v * v for row in rows for v in row) / len(rows)


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 5, 26])
@pytest.mark.parametrize("p", [1, 3, 128])
@pytest.mark.parametrize("training", [False, True])
def test_penalty_of_the_clean_code(n: int, p: int, training: bool) -> None:
    z = draw(n, p)
    _, penalty = asymmetric_noise(z, training=training)
    expected = torch.tensor(penalty_by_loops(z, 1e-3), dtype=F64)
    assert_close(penalty, expected, **tolerance(F64, "value"))


def test_penalty_of_the_noisy_code() -> None:
    z = draw(7, 3)
    noisy, penalty = asymmetric_noise(z, on="noisy", decay=0.5, generator=seeded())
    assert penalty.item() == pytest.approx(penalty_by_loops(noisy, 0.5), rel=1e-12)
    _, penalty = asymmetric_noise(z, on="noisy", decay=0.5, training=False)
    assert penalty.item() == pytest.approx(penalty_by_loops(z, 0.5), rel=1e-12)


def test_noisy_form_adds_a_known_constant() -> None:
    # E ‖z + ζ‖² = ‖z‖² + pσ²; the mean of 4,000 samples of 50 numbers has a deviation of 0.5%.
    z = draw(4000, 50, seed=3)
    _, clean = asymmetric_noise(z, sigma=2.0, decay=1.0)
    _, noisy = asymmetric_noise(z, sigma=2.0, decay=1.0, on="noisy", generator=seeded(1))
    assert (noisy - clean).item() == pytest.approx(50 * 4.0, rel=0.02)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_noise_is_gaussian_with_the_given_deviation(sigma: float) -> None:
    z = torch.full((500, 20), 7.0, dtype=F64)
    noisy, _ = asymmetric_noise(z, sigma=sigma, generator=seeded(5))
    noise = (noisy - z).flatten().numpy()
    assert scipy.stats.kstest(noise, scipy.stats.norm(0, sigma).cdf).pvalue > 0.01
    assert noise.std() == pytest.approx(sigma, rel=0.03)


def test_eval_mode_and_sigma_zero_add_nothing() -> None:
    z = draw(6, 3)
    state = torch.get_rng_state()
    for settings_ in ({"training": False}, {"sigma": 0.0}):
        code, _ = asymmetric_noise(z, **settings_)
        assert torch.equal(code, z)
    assert torch.equal(torch.get_rng_state(), state)


def test_generators_repeat_and_leave_the_global_one_alone() -> None:
    z = draw(6, 3)
    state = torch.get_rng_state()
    generator = seeded(4)
    first, second = (asymmetric_noise(z, generator=generator)[0] for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, asymmetric_noise(z, generator=seeded(4))[0])
    assert not torch.equal(first, second)
    torch.manual_seed(4)
    assert torch.equal(first, asymmetric_noise(z)[0])


@pytest.mark.parametrize("batch", [(1,), (3,), (2, 3)])
def test_batch_is_a_loop_over_problems(batch: tuple[int, ...]) -> None:
    z = draw(*batch, 5, 2)
    code, penalty = asymmetric_noise(z)
    assert code.shape == z.shape
    assert penalty.shape == batch
    for index in itertools.product(*map(range, batch)):
        assert_close(penalty[index], asymmetric_noise(z[index])[1])


def test_shapes_on_the_meta_device() -> None:
    code, penalty = asymmetric_noise(torch.empty(4, 5, 2, device="meta"))
    assert code.shape == (4, 5, 2)
    assert penalty.shape == (4,)


def test_a_vector_is_a_column() -> None:
    z = draw(9)
    code, penalty = asymmetric_noise(z, generator=seeded())
    column, expected = asymmetric_noise(z[:, None], generator=seeded())
    assert torch.equal(code, column[:, 0])
    assert_close(penalty, expected)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(-6, 6).map(lambda e: 10.0**e),
    st.floats(0, 1e3),
    st.integers(0, 2**32),
)
def test_penalty_scales_and_does_not_see_order(
    n: int, p: int, scale: float, decay: float, seed: int
) -> None:
    z = draw(n, p, seed=seed)
    _, penalty = asymmetric_noise(z, decay=decay)
    _, scaled = asymmetric_noise(scale * z, decay=decay)
    _, turned = asymmetric_noise(z.flip(0, 1), decay=decay)
    assert penalty >= 0
    assert_close(scaled, scale**2 * penalty, rtol=1e-9, atol=0.0)
    assert_close(turned, penalty, rtol=1e-9, atol=0.0)
    assert asymmetric_noise(0 * z, decay=decay)[1].item() == 0.0


@pytest.mark.parametrize("kind", ["transposed", "strided", "expanded"])
def test_memory_layout_does_not_matter(kind: str) -> None:
    z = {
        "transposed": draw(4, 8).mT,
        "strided": draw(16, 8)[::2, ::2],
        "expanded": draw(1, 4).expand(8, 4),
    }[kind]
    code, penalty = asymmetric_noise(z, generator=seeded())
    plain, expected = asymmetric_noise(z.clone(), generator=seeded())
    assert torch.equal(code, plain)
    assert_close(penalty, expected)
    if kind == "expanded":  # the rows of the code are one in memory, their noise is not
        assert not torch.equal(code[0], code[1])


def test_a_feature_costs_what_it_is_worth() -> None:
    # For a linear code z = a x of a feature worth v, the best size is a² = σ √(v/λ) - σ², or 0.
    worth, sigma, decay = torch.tensor([0.01, 0.04, 0.16, 1.0], dtype=F64), 0.5, 0.1
    a = torch.full((4,), 0.7, dtype=F64, requires_grad=True)
    b = torch.full((4,), 0.7, dtype=F64, requires_grad=True)
    generator = seeded()
    optimizer = torch.optim.Adam([a, b], lr=0.02)
    for _ in range(500):
        x = torch.randn(500, 4, generator=generator, dtype=F64)
        code, penalty = asymmetric_noise(a * x, sigma=sigma, decay=decay, generator=generator)
        loss = (worth * (x - b * code).square()).sum(-1).mean() + penalty
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = (sigma * (worth / decay).sqrt() - sigma**2).clamp(min=0)
    assert (expected[:1] == 0).all()
    assert_close(a.detach().square(), expected, rtol=0.1, atol=0.02)


# -- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, F64])
def test_dtypes(dtype: torch.dtype) -> None:
    z = draw(50, 300, dtype=dtype)
    code, penalty = asymmetric_noise(z, decay=1.0)
    assert code.dtype == penalty.dtype == dtype
    expected = torch.tensor(penalty_by_loops(z, 1.0), dtype=F64)
    assert_close(penalty.double(), expected, **tolerance(dtype, "value"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_gives_a_float32_penalty(dtype: torch.dtype) -> None:
    z = draw(50, 300, dtype=dtype)
    with torch.autocast("cpu", dtype=dtype):
        code, penalty = asymmetric_noise(z)
    assert code.dtype == dtype
    assert penalty.dtype == torch.float32
    assert torch.equal(penalty, asymmetric_noise(z.float())[1])


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [4, 5, 25, 26, 40])
@pytest.mark.parametrize("on", ["clean", "noisy"])
def test_gradcheck(n: int, on: str) -> None:
    z = draw(n, 3)
    z[1] = z[0]
    z.requires_grad_()

    def both(z: Tensor) -> tuple[Tensor, Tensor]:
        return asymmetric_noise(z, on=on, decay=0.7, generator=seeded())

    assert torch.autograd.gradcheck(both, z)
    assert torch.autograd.gradgradcheck(both, z)


def test_the_gradients_in_the_docstring() -> None:
    z = draw(6, 2).requires_grad_()
    code, penalty = asymmetric_noise(z, decay=0.5, generator=seeded())
    (through,) = torch.autograd.grad(code.sum(), z)
    assert torch.equal(through, torch.ones_like(z))
    assert_close(torch.autograd.grad(penalty, z)[0], 2 * 0.5 * z.detach() / 6)
    code, penalty = asymmetric_noise(z, decay=0.5, on="noisy", generator=seeded())
    assert_close(torch.autograd.grad(penalty, z)[0], 2 * 0.5 * code.detach() / 6)


def test_nan_comes_out_unless_asked_for() -> None:
    z = draw(6, 2)
    z[2, 1] = torch.inf
    assert asymmetric_noise(z)[1].isinf()
    with pytest.raises(ValueError, match=r"z must be finite, got NaN or infinity"):
        asymmetric_noise(z, check_finite=True)
    with pytest.raises(ValueError, match=r"z must be finite"):
        AsymmetricNoise(check_finite=True)(z)


# -- torch's transformations ----------------------------------------------------------------------


@pytest.mark.parametrize("on", ["clean", "noisy"])
def test_compiles_without_a_graph_break(on: str) -> None:
    noise = AsymmetricNoise(on=on)
    compiled = torch.compile(noise, fullgraph=True, backend="aot_eager")
    z = draw(6, 3).requires_grad_()
    torch.manual_seed(0)
    code, penalty = compiled(z)
    torch.manual_seed(0)
    expected, expected_penalty = noise(z)
    assert_close(code, expected)
    assert_close(penalty, expected_penalty)
    noise.eval()
    assert torch.equal(compiled(z)[0], z)


def test_a_generator_breaks_the_graph_but_not_the_result() -> None:
    compiled = torch.compile(AsymmetricNoise(generator=seeded(3)), backend="eager")
    z = draw(6, 3)
    assert torch.equal(compiled(z)[0], asymmetric_noise(z, generator=seeded(3))[0])


def test_vmap_and_grad() -> None:
    z = draw(5, 6, 2)
    mapped = torch.vmap(asymmetric_noise, randomness="different")
    code, penalty = mapped(z)
    assert_close(penalty, asymmetric_noise(z)[1])
    noise = code - z
    assert not torch.equal(noise[0], noise[1])
    with pytest.raises(RuntimeError, match="randomness"):
        torch.vmap(asymmetric_noise)(z)
    gradient = torch.vmap(torch.func.grad(lambda z: asymmetric_noise(z, training=False)[1]))(z)
    assert_close(gradient, 2e-3 * z / 6)


def test_no_host_sync() -> None:
    z = draw(6, 2).requires_grad_()
    with NoHostSync():
        code, penalty = asymmetric_noise(z)
        (code.sum() + penalty).backward()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_does_not_wait() -> None:
    z = draw(60, 5, dtype=torch.float32)
    expected = asymmetric_noise(z)[1]
    leaf, generator = z.cuda().requires_grad_(), torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        code, penalty = asymmetric_noise(leaf, generator=generator)
        (code.sum() + penalty).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert_close(penalty.cpu(), expected, **tolerance(torch.float32, "value"))
    with pytest.raises(ValueError, match=r"generator must be on the device"):
        asymmetric_noise(leaf, generator=seeded())


# -- the module -----------------------------------------------------------------------------------


def test_module_mirrors_the_function() -> None:
    z = draw(3, 6, 2)
    settings_ = {"sigma": 0.3, "decay": 0.1, "on": "noisy"}
    expected, penalties = asymmetric_noise(z, generator=seeded(2), **settings_)
    for reduction, reduced in (
        ("mean", penalties.mean()),
        ("sum", penalties.sum()),
        ("none", penalties),
    ):
        layer = AsymmetricNoise(generator=seeded(2), reduction=reduction, **settings_)
        code, penalty = layer(z)
        assert torch.equal(code, expected)
        assert_close(penalty, reduced)


def test_module_is_silent_in_eval_mode() -> None:
    z = draw(6, 2)
    layer = AsymmetricNoise()
    assert not torch.equal(layer(z)[0], z)
    assert torch.equal(layer.eval()(z)[0], z)
    assert_close(layer(z)[1], asymmetric_noise(z)[1])


def test_module_holds_settings_only() -> None:
    layer = AsymmetricNoise(sigma=0.5, on="noisy", generator=seeded(2))
    assert repr(layer) == (
        "AsymmetricNoise(sigma=0.5, decay=0.001, on='noisy', reduction='mean', "
        "check_finite=False, own generator)"
    )
    assert not layer.state_dict()
    z = draw(6, 2)
    twins = [pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)]
    expected = layer(z)[0]
    for twin in twins:  # a copy goes on from the same place of the random stream
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(z)[0], expected)


def test_the_defaults_are_the_papers() -> None:
    layer = AsymmetricNoise()
    assert (layer.sigma, layer.decay, layer.on) == (1.0, 1e-3, "clean")


Z = torch.zeros(4, 2)
WRONG: list[tuple[str, Callable[[], object], type[Exception], str]] = [
    (
        "no tensor",
        lambda: asymmetric_noise([1.0]),
        TypeError,
        r"z must be a torch.Tensor, got list",
    ),
    (
        "integers",
        lambda: asymmetric_noise(Z.int()),
        TypeError,
        r"z must have a floating-point dtype",
    ),
    ("scalar", lambda: asymmetric_noise(torch.tensor(1.0)), ValueError, r"z must have shape"),
    ("no samples", lambda: asymmetric_noise(Z[:0]), ValueError, r"z must have at least 1 samples"),
    (
        "no features",
        lambda: asymmetric_noise(Z[:, :0]),
        ValueError,
        r"z must have at least one feat",
    ),
    ("sigma", lambda: asymmetric_noise(Z, sigma=-1.0), ValueError, r"sigma must be in \[0, inf\)"),
    (
        "inf",
        lambda: asymmetric_noise(Z, sigma=float("inf")),
        ValueError,
        r"sigma must be .* got inf",
    ),
    (
        "sigma type",
        lambda: AsymmetricNoise(sigma="1"),
        TypeError,
        r"sigma must be a number, got str",
    ),
    ("decay", lambda: asymmetric_noise(Z, decay=-1.0), ValueError, r"decay must be in \[0, inf\)"),
    ("decay type", lambda: AsymmetricNoise(decay=None), TypeError, r"decay must be a number"),
    (
        "on",
        lambda: asymmetric_noise(Z, on="both"),
        ValueError,
        r"on must be one of 'clean', 'noisy'",
    ),
    ("on type", lambda: AsymmetricNoise(on=1), TypeError, r"on must be a string, got int"),
    (
        "training",
        lambda: asymmetric_noise(Z, training=1),
        TypeError,
        r"training must be True or Fal",
    ),
    (
        "generator",
        lambda: asymmetric_noise(Z, generator=7),
        TypeError,
        r"generator must be a torch.Generator, got int",
    ),
    (
        "generator's device",
        lambda: asymmetric_noise(Z.to("meta"), generator=seeded()),
        ValueError,
        r"generator must be on the device of the samples, meta, got cpu",
    ),
    ("module generator", lambda: AsymmetricNoise(generator=7), TypeError, r"generator must be"),
    (
        "reduction",
        lambda: AsymmetricNoise(reduction="max"),
        ValueError,
        r"reduction must be one of",
    ),
    (
        "flag",
        lambda: AsymmetricNoise(check_finite=None),
        TypeError,
        r"check_finite must be True or",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
)
def test_wrong_calls(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
