"""torch.compile, torch.func, and devices that must not be waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.func import grad, jacrev, vmap
from torch.testing import assert_close

from dcorr import DCov2Loss, dcor, dcor2, dcov, dcov2, dvar2, pdcor, pdcov2
from dcorr.pairwise import operator, preparation, sample
from tests.dcorr.methods import exponents, features
from tests.dcorr.oracle import draw
from tests.dcorr.sync import NoHostSync

Function = Callable[..., Tensor]
COUNTS: dict[Function, int] = {
    dcov2: 2,
    dcov: 2,
    dvar2: 1,
    dcor2: 2,
    dcor: 2,
    pdcov2: 3,
    pdcor: 3,
}
UNBIASED: list[Function] = [partial(dcov2, unbiased=True), partial(dcor2, unbiased=True)]
EVERY = [*COUNTS.items(), *((f, 2) for f in UNBIASED)]


def points(
    count: int, *shape: int, dtype: torch.dtype = torch.float32, method: str = "auto"
) -> list[Tensor]:
    counts = features(method, 3, 4, 5)[:count]
    return [draw(*shape, p, seed=k, dtype=dtype) for k, p in enumerate(counts)]


# -- torch.compile --------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def whole_family(x: Tensor, y: Tensor, z: Tensor, w: Tensor, method: str) -> Tensor:
    """Every function once, so that one compilation tells about all of them."""
    options: dict[str, Any] = {"method": method}
    many = method != "univariate"
    values = [
        dcov2(x, y, **options),
        dcov2(x, y, unbiased=True, **options),
        dcov(x, y, weights=w, exponent=1.5 if many else 1.0, **options),
        dvar2(x, **options),
        dcor2(x, y, unbiased=True, exponent=2 if many else 1, **options),
        dcor(x, y, weights=w, **options),
        pdcov2(x, y, z, **options),
        pdcor(x, y, z, **options),
        dcov2(x @ x.mT, y @ y.mT, metric="precomputed"),
        DCov2Loss(reduction="sum", **options)(x, y),
    ]
    return torch.stack(values)


# Few samples are computed in float64, many in float32.
@pytest.mark.parametrize(("n", "method"), [(20, "dense"), (70, "tiled"), (70, "univariate")])
@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_to_one_graph(n: int, method: str) -> None:
    x, y, z = (t.requires_grad_() for t in points(3, n, method=method))
    w = draw(n, seed=9, dtype=torch.float32).square().requires_grad_()
    compiled = torch.compile(whole_family, fullgraph=True, backend="aot_eager")
    eager = whole_family(x, y, z, w, method)
    value = compiled(x, y, z, w, method)
    assert_close(value, eager)
    inputs = [x, y, z, w]
    for ours, theirs in zip(
        torch.autograd.grad(value.sum(), inputs),
        torch.autograd.grad(eager.sum(), inputs),
        strict=True,
    ):
        assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("fresh_compiler")
def test_compiles_with_inductor_inside_a_model() -> None:
    """The default backend, a model around the loss, and autocast, in one go."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 5))
    x, y = points(2, 100)
    x = x.repeat(1, 2)
    loss = DCov2Loss()

    def step(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss(model(x), y)

    gradients = []
    for run in (step, torch.compile(step, fullgraph=True)):
        model.zero_grad()
        value = run(x, y)
        assert value.dtype == torch.float32
        value.backward()
        gradients.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
    for ours, theirs in zip(*gradients, strict=True):
        # The compiler fuses the layers and so rounds them to bfloat16 at other places.
        assert_close(ours, theirs, rtol=5e-2, atol=2e-3)


@pytest.mark.usefixtures("fresh_compiler")
def test_one_compilation_serves_every_number_of_samples() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(dcov2, fullgraph=True, dynamic=True, backend=counter)
    counts = []  # the numbers of samples are on one side of all choices by size
    for wanted in (False, True):
        for n in (70, 90, 200):
            x, y = (t.requires_grad_(wanted) for t in points(2, n))
            ours, theirs = compiled(x, y), dcov2(x, y)
            assert_close(ours, theirs)
            if wanted:
                assert_close(*(torch.autograd.grad(value, x)[0] for value in (ours, theirs)))
            counts.append(counter.frame_count)
    assert counts[0] == counts[1] == counts[2] < counts[3] == counts[4] == counts[5]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("error::UserWarning")
def test_compiles_through_torch_func() -> None:
    x, y = points(2, 4, 20)
    # (vmap over grad, inside torch.compile, is what torch has for no autograd.Function.)
    for transformed in (vmap(dcov2), grad(lambda s, t: dcov2(s, t).sum())):
        compiled = torch.compile(transformed, fullgraph=True, backend="aot_eager")
        assert_close(compiled(x, y), transformed(x, y))


@pytest.mark.parametrize("n", [20, 70])
@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_operators_are_what_they_declare(n: int, two: bool, weighted: bool, method: str) -> None:
    """Shapes, dtypes, strides and aliases, as torch's own checks see them."""
    x, y = points(2, 2, n, method=method)
    weights = torch.full((2, n), 1 / n) if weighted else None
    inputs = (x, y if two else None, weights)
    utilities = ("test_schema", "test_faketensor")
    for variances in (True, False) if two else (True,):
        args = (*inputs, 1.0, method, variances)
        torch.library.opcheck(operator._moments_op, args, test_utils=utilities)
        outputs = operator._moments(*args)
        incoming = [None if t.shape[-1:] == (0,) else torch.ones_like(t) for t in outputs[:5]]
        means, kept = outputs[3:5], outputs[5:]
        args = (*inputs, *means, *incoming, 1.0, method, True, two, weighted, kept)
        torch.library.opcheck(operator._pull_op, args, test_utils=utilities)


# -- torch.func -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("function", "count"), EVERY)
def test_grad(function: Function, count: int, method: str) -> None:
    samples = points(count, 9, method=method)
    ours = grad(partial(function, method=method), argnums=tuple(range(count)))(*samples)
    for t in samples:
        t.requires_grad_()
    theirs = torch.autograd.grad(function(*samples, method=method), samples)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize(("function", "count"), EVERY)
def test_vmap(function: Function, count: int, method: str) -> None:
    samples = points(count, 4, 9, method=method)
    run = partial(function, method=method)
    assert_close(vmap(run)(*samples), run(*samples))
    moved = [t.movedim(0, -1) for t in samples]
    assert_close(vmap(run, in_dims=-1)(*moved), run(*samples))
    if count > 1:
        shared = vmap(run, in_dims=(0, *(None,) * (count - 1)))(
            samples[0], *(t[0] for t in samples[1:])
        )
        assert_close(shared, run(samples[0], *(t[:1] for t in samples[1:])))


def test_vmap_over_weights(method: str) -> None:
    x, y = points(2, 9, method=method)
    weights = draw(4, 9, seed=5, dtype=torch.float32).square()
    ours = vmap(lambda w: dcor(x, y, weights=w, method=method))(weights)
    assert_close(ours, dcor(x, y, weights=weights, method=method))
    ours = vmap(grad(lambda w: dcor(x, y, weights=w, method=method)))(weights)
    weights.requires_grad_()
    (theirs,) = torch.autograd.grad(dcor(x, y, weights=weights, method=method).sum(), weights)
    assert_close(ours, theirs)


def test_grad_and_vmap_in_any_order(method: str) -> None:
    x, y = points(2, 4, 9, dtype=torch.float64, method=method)
    run = partial(dcor2, method=method)
    free = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(run(free, y).sum(), free)
    assert_close(vmap(grad(run))(x, y), expected)
    assert_close(grad(lambda t: vmap(run)(t, y).sum())(x), expected)
    nested = vmap(vmap(run, in_dims=(0, None)), in_dims=(None, 0))(x, y)
    assert_close(nested, run(x.unsqueeze(0), y.unsqueeze(1)))


@pytest.mark.parametrize("function", [dcov2, partial(dcor2, unbiased=True), dcor])
def test_second_derivatives(function: Function, method: str) -> None:
    x, y = points(2, 5, dtype=torch.float64, method=method)
    run = partial(function, method=method)
    ours = jacrev(jacrev(run))(x, y)
    theirs = torch.autograd.functional.hessian(lambda t: run(t, y), x)
    assert_close(ours, theirs)
    penalty = grad(lambda t: grad(run)(t, y).square().sum())(x)
    free = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(run(free, y), free, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), free)
    assert_close(penalty, second)


# -- other devices --------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("n", [9, 70])
def test_nothing_waits_for_another_device(p: int, n: int, method: str) -> None:
    """Tensors without values: to read one fails, as it would stop the pipeline of a GPU."""
    if method == "fused":
        pytest.skip("a CUDA device only: test_fused_cuda.py asks the same of one")
    x = torch.empty(n, p, device="meta", requires_grad=True)
    y = torch.empty(n, *features(method, 3), device="meta", requires_grad=True)
    w = torch.empty(n, device="meta", requires_grad=True)
    with NoHostSync():
        for function in (dcov2, dcov, dcor2, dcor):
            function(x, y, weights=w, method=method).backward()
            for exponent in exponents(method, 1.5):
                function(x, y, exponent=exponent, method=method).backward()
        dcor2(x, y, unbiased=True, method=method).backward()
        pdcor(x, y, x, method=method).backward()
        dcor(
            *(torch.empty(n, n, device="meta", requires_grad=True) for _ in "xy"),
            metric="precomputed",
        )
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("p", [1, 2, 3, 300])
@pytest.mark.parametrize("n", [9, 70])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_other_devices_get_the_same_numbers(
    p: int, n: int, dtype: torch.dtype, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done on devices that must not be waited for, done here."""
    x, y = draw(n, p, dtype=dtype) + 100, draw(n, *features(method, 5), seed=1, dtype=dtype)
    x[3], y[4] = x[2], y[5]
    results = []
    here = preparation.form_of
    for form_of in (here, lambda x: sample.SampleByDifferences):
        monkeypatch.setattr("dcorr.pairwise.preparation.form_of", form_of)
        free = [t.clone().requires_grad_() for t in (x, y)]
        value = dcor2(*free, method=method)
        results.append([value, *torch.autograd.grad(value, free)])
    for one, other in zip(*results, strict=True):
        close = 1e-5 if dtype == torch.float32 else 1e-9
        assert_close(one, other, rtol=close, atol=close * one.abs().max().item())


@pytest.mark.gpu
@pytest.mark.parametrize("n", [9, 70, 700])
def test_cuda_matches_cpu(n: int, method: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, y = points(2, n, method=method)
    x[3] = x[2]
    results = []
    for device in ("cpu", "cuda"):
        free = [t.to(device).requires_grad_() for t in (x, y)]
        value = dcor2(*free, method=method)
        results.append([value.cpu(), *(g.cpu() for g in torch.autograd.grad(value, free))])
    for one, other in zip(*results, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-4 * one.abs().max().item())
