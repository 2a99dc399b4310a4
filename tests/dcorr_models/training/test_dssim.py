"""The structural loss: torchmetrics' value and gradient, and gradients where that has none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dcorr_models.metrics.image_quality import ms_ssim, ms_ssim_weights
from dcorr_models.training.dssim import dssim, multi_scale_ssim


def pair(side: int, *, channels: int = 3, noise: float = 0.1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(side)
    x = torch.rand(4, channels, side, side, generator=generator, dtype=dtype)
    y = (x + noise * torch.randn(x.shape, generator=generator, dtype=dtype)).clamp(0, 1)
    return x, y


@pytest.mark.parametrize(("side", "channels"), [(11, 1), (28, 1), (45, 3), (64, 3), (101, 1)])
def test_value_and_gradient_are_those_of_torchmetrics(side, channels):
    x, y = pair(side, channels=channels, dtype=torch.float64)
    gradients = []
    for function in (multi_scale_ssim, ms_ssim):
        leaf = y.clone().requires_grad_()
        value = function(x, leaf)
        value.sum().backward()
        gradients.append((value.detach(), leaf.grad))
    # torchmetrics filters in float32 whatever comes in
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], rtol=1e-3, atol=1e-7)


def test_the_definition_by_sums_over_windows():
    """One scale, in loops: each pixel's window, borders reflected."""
    x, y = pair(11, channels=1, dtype=torch.float64)
    offsets = range(-5, 6)
    window = {
        (i, j): torch.tensor(-(i * i + j * j) / (2 * 1.5**2), dtype=torch.float64).exp().item()
        for i in offsets
        for j in offsets
    }
    total = sum(window.values())

    def at(image: Tensor, row: int, column: int) -> float:
        row, column = (10 - abs(10 - abs(k)) for k in (row, column))
        return image[0, 0, row, column].item()

    def mean(row: int, column: int, f) -> float:
        return sum(w * f(row + i, column + j) for (i, j), w in window.items()) / total

    values = []
    for row in range(11):
        for column in range(11):
            mx = mean(row, column, lambda i, j: at(x, i, j))
            my = mean(row, column, lambda i, j: at(y, i, j))
            vx = mean(row, column, lambda i, j: at(x, i, j) ** 2) - mx**2
            vy = mean(row, column, lambda i, j: at(y, i, j) ** 2) - my**2
            cov = mean(row, column, lambda i, j: at(x, i, j) * at(y, i, j)) - mx * my
            luminance = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
            values.append(luminance * (2 * cov + 9e-4) / (vx + vy + 9e-4))
    wanted = sum(values) / len(values)
    assert multi_scale_ssim(x, y)[0].item() == pytest.approx(wanted, rel=1e-10)


BLACK, WHITE = torch.zeros(4, 3, 64, 64), torch.ones(4, 3, 64, 64)
NOISE = pair(64)[0]
CASES = {
    "equal": (NOISE, NOISE),
    "both black": (BLACK, BLACK),
    "black and white": (BLACK, WHITE),
    "black and noise": (BLACK, NOISE),
    "negative": (NOISE, 1 - NOISE),
    "grey": (NOISE, torch.full_like(NOISE, 0.5)),
    "unrelated": (NOISE, NOISE.flip(0)),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_is_finite_everywhere(case):
    x, y = CASES[case]
    leaf = y.clone().requires_grad_()
    loss = dssim(x, leaf)
    loss.backward()
    assert 0 <= loss.item() <= 0.5
    assert leaf.grad.isfinite().all()
    if case in ("equal", "both black"):
        assert loss.item() == pytest.approx(0.0, abs=1e-6)
        assert leaf.grad.abs().max() < 1e-6
    elif case in ("negative", "grey", "unrelated"):
        assert leaf.grad.abs().max() > 1e-9, "a bad image must be pulled somewhere"


def test_a_gradient_step_from_a_negative_image_goes_the_right_way():
    x = pair(64)[0]
    y = (1 - x).requires_grad_()
    before = dssim(x, y)
    before.backward()
    with torch.no_grad():
        after = dssim(x, y - 5.0 * y.grad / y.grad.norm())
    assert after < before


def test_continuation_is_smooth_at_the_floor():
    """The same terms on either side of the floor: value and gradient do not jump."""
    x, y = pair(64, noise=0.5, dtype=torch.float64)

    def at(floor: float) -> tuple[Tensor, Tensor]:
        leaf = y.clone().requires_grad_()
        value = multi_scale_ssim(x, leaf, weights=[1.0], floor=floor)
        value.sum().backward()
        return value.detach(), leaf.grad

    term = at(1e-3)[0]  # far under the terms: exact
    for eps in (-1e-6, 1e-6):
        value, gradient = at(term[0].item() * (1 + eps))
        torch.testing.assert_close(value[0], term[0], rtol=1e-9, atol=0)
        torch.testing.assert_close(gradient[0], at(1e-3)[1][0], rtol=1e-5, atol=1e-12)


def test_gradcheck():
    x, y = pair(22, channels=1, dtype=torch.float64)
    x, y = x[:1], y[:1].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda t: multi_scale_ssim(x, t), (y,), fast_mode=True)


def test_value_range_is_mapped_to_the_peak_of_one():
    x, y = pair(64)
    wanted = 0.5 * (1 - ms_ssim(x, y)).mean()
    got = dssim(2 * x - 1, 2 * y - 1, value_range=(-1.0, 1.0))
    assert got.item() == pytest.approx(wanted.item(), rel=1e-4)


def test_symmetric_per_image_and_free_of_autocast():
    x, y = pair(64)
    value = multi_scale_ssim(x, y)
    torch.testing.assert_close(value, multi_scale_ssim(y, x))
    torch.testing.assert_close(value[2:3], multi_scale_ssim(x[2:3], y[2:3]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(value, multi_scale_ssim(x, y))
    assert dssim(x.bfloat16(), y.bfloat16()).dtype == torch.float32
    exact = dssim(x.double(), y.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(exact.float(), dssim(x, y))


def test_made_under_inference_mode_first_it_still_trains():
    x, y = pair(33)
    with torch.inference_mode():
        multi_scale_ssim(x.double(), y.double())
    leaf = y.double().requires_grad_()
    multi_scale_ssim(x.double(), leaf).sum().backward()
    assert leaf.grad.isfinite().all()


def test_own_weights_and_images_that_are_not_square():
    x, y = (image[..., :40] for image in pair(64))
    torch.testing.assert_close(
        multi_scale_ssim(x, y), multi_scale_ssim(x, y, weights=ms_ssim_weights(40))
    )
    torch.testing.assert_close(multi_scale_ssim(x, y), ms_ssim(x, y), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((2, 1, 10, 10), {}, "at least 11 pixels"),
        ((2, 1, 28, 28), {"weights": [0.3, 0.3, 0.4]}, "3 scales do not fit images of side 28"),
        ((2, 1, 28, 28), {"weights": []}, "0 scales"),
        ((2, 28, 28), {}, "same shape"),
        ((2, 1, 28, 28), {"floor": 0.0}, "floor must lie in"),
    ],
)
def test_impossible_arguments_are_refused(shape, options, message):
    with pytest.raises(ValueError, match=message):
        multi_scale_ssim(torch.zeros(shape), torch.zeros(shape), **options)
