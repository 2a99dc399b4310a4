from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from dcorr_models.metrics.image_quality import (
    image_quality,
    ms_ssim,
    ms_ssim_weights,
    psnr,
    rmse,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_known_error():
    images = draw(5, 1, 28, 28) * 0.5
    quality = image_quality(images, images + 0.1)
    assert quality["rmse"]["mean"] == pytest.approx(0.1, abs=1e-6)
    assert quality["rmse"]["std"] == pytest.approx(0.0, abs=1e-6)
    assert quality["psnr"]["mean"] == pytest.approx(20.0, abs=1e-4)
    assert quality["images"] == 5


def test_mean_and_spread_are_taken_over_the_images():
    images = torch.zeros(2, 1, 28, 28)
    errors = torch.tensor([0.1, 0.3]).reshape(2, 1, 1, 1)
    quality = image_quality(images, images + errors)
    assert quality["rmse"] == pytest.approx({"mean": 0.2, "std": 0.1}, abs=1e-6)
    db = [-20 * math.log10(0.1), -20 * math.log10(0.3)]
    mean, std = sum(db) / 2, abs(db[0] - db[1]) / 2
    assert quality["psnr"] == pytest.approx({"mean": mean, "std": std}, abs=1e-4)
    # the PSNR of the mean RMSE would be another number
    assert abs(quality["psnr"]["mean"] + 20 * math.log10(0.2)) > 0.3


def test_equal_images():
    images = draw(3, 1, 28, 28)
    quality = image_quality(images, images.clone())
    assert quality["rmse"] == {"mean": 0.0, "std": 0.0}
    assert quality["psnr"]["mean"] == pytest.approx(100.0, abs=1e-4)
    assert quality["ms_ssim"]["mean"] == pytest.approx(1.0, abs=1e-6)


def test_the_value_range_is_mapped_away():
    x, y = draw(4, 3, 32, 32), draw(4, 3, 32, 32, seed=1)
    plain = image_quality(x, y)
    mapped = image_quality(x * 2 - 1, y * 2 - 1, value_range=(-1.0, 1.0))
    for key in ("rmse", "psnr", "ms_ssim"):
        assert mapped[key] == pytest.approx(plain[key], rel=1e-4)
    assert mapped["value_range"] == [-1.0, 1.0]


def test_nothing_is_clamped():
    images = torch.zeros(1, 1, 28, 28)
    assert image_quality(images, images - 0.5)["rmse"]["mean"] == pytest.approx(0.5)


def test_rmse_and_psnr_against_numpy():
    x, y = draw(6, 2, 5, 7), draw(6, 2, 5, 7, seed=1)
    mse = [
        np.mean((a - b) ** 2, dtype=np.float64) for a, b in zip(x.numpy(), y.numpy(), strict=True)
    ]
    np.testing.assert_allclose(rmse(x, y), np.sqrt(mse), rtol=1e-6)
    np.testing.assert_allclose(psnr(x, y), -10 * np.log10(mse), rtol=1e-6)


def oracle_ms_ssim(x: np.ndarray, y: np.ndarray, weights: tuple[float, ...]) -> float:
    """MS-SSIM of one grey image in float64, from the formula."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        # scipy's "mirror" is the reflection that leaves the border pixel single
        return correlate1d(correlate1d(image, taps, 0, mode="mirror"), taps, 1, mode="mirror")

    value = 1.0
    for scale, weight in enumerate(weights):
        mean_x, mean_y = blur(x), blur(y)
        var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
        covariance = blur(x * y) - mean_x * mean_y
        structure = (2 * covariance + 0.03**2) / (var_x + var_y + 0.03**2)
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        last = scale == len(weights) - 1
        term = (luminance * structure).mean() if last else structure[5:-5, 5:-5].mean()
        value *= max(term, 0.0) ** weight
        height, width = (size // 2 * 2 for size in x.shape)
        x, y = (
            im[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
            for im in (x, y)
        )
    return value


@pytest.mark.parametrize("side", [11, 28, 32, 45, 64])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_ms_ssim_is_its_formula(side, noise):
    rows = torch.linspace(0, 3, side)
    x = (0.5 + 0.4 * torch.sin(rows[:, None] * rows[None, :])).expand(2, 1, side, side)
    y = x + noise * (draw(2, 1, side, side) - 0.5)
    weights = ms_ssim_weights(side)
    expected = [
        oracle_ms_ssim(a.double().numpy()[0], b.double().numpy()[0], weights)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(ms_ssim(x, y), expected, atol=1e-4)


def test_ms_ssim_treats_images_alone():
    x, y = draw(300, 1, 22, 22), draw(300, 1, 22, 22, seed=1)
    whole = ms_ssim(x, y)
    assert whole.shape == (300,)
    torch.testing.assert_close(whole[255:258], ms_ssim(x[255:258], y[255:258]))
    assert ms_ssim(x[:1], y[:1]).shape == (1,)


@pytest.mark.parametrize(
    ("side", "scales"),
    [
        *[(11, 1), (21, 1), (22, 2), (28, 2), (32, 2), (43, 2), (44, 3), (64, 3), (98, 3)],
        *[(99, 4), (128, 4), (175, 4), (176, 5), (256, 5)],
    ],
)
def test_the_scales_follow_from_the_side(side, scales):
    weights = ms_ssim_weights(side)
    assert len(weights) == scales
    assert sum(weights) == pytest.approx(1.0)
    assert weights[-1] / weights[0] == pytest.approx(
        (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[scales - 1] / 0.0448
    )
    # and torchmetrics accepts them
    image = draw(1, 1, side, side)
    assert ms_ssim(image, image).item() == pytest.approx(1.0, abs=1e-5)


def test_the_smaller_side_decides():
    images = draw(2, 1, 28, 80)
    assert image_quality(images, images)["ms_ssim_scales"] == 2


def test_the_result_is_json_and_says_its_settings():
    images = draw(2, 1, 28, 28)
    quality = json.loads(json.dumps(image_quality(images, 1 - images), allow_nan=False))
    assert quality["ms_ssim_scales"] == 2
    assert quality["ms_ssim_weights"] == pytest.approx([0.0448 / 0.3304, 0.2856 / 0.3304], abs=1e-6)
    assert quality["value_range"] == [0.0, 1.0]


ZEROS = torch.zeros(2, 1, 28, 28)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (
            ZEROS,
            ZEROS[:1],
            {},
            ValueError,
            r"same shape, got \(2, 1, 28, 28\) and \(1, 1, 28, 28\)",
        ),
        (ZEROS[0], ZEROS[0], {}, ValueError, r"shape \(N, C, H, W\) with N > 0, got \(1, 28, 28\)"),
        (ZEROS[:0], ZEROS[:0], {}, ValueError, r"with N > 0, got \(0, 1, 28, 28\)"),
        (ZEROS.byte(), ZEROS.byte(), {}, TypeError, "floating point, got torch.uint8"),
        (ZEROS, ZEROS / 0, {}, ValueError, "reconstructions must be finite"),
        (ZEROS, ZEROS, {"value_range": (1.0, 1.0)}, ValueError, "low < high, got"),
    ],
)
def test_wrong_calls(x, y, options, error, message):
    with pytest.raises(error, match=message):
        image_quality(x, y, **options)


def test_below_eleven_pixels_only_ms_ssim_is_left_out():
    quality = image_quality(ZEROS[..., :10], ZEROS[..., :10] + 0.5)
    assert quality["rmse"]["mean"] == pytest.approx(0.5)
    assert not any(key.startswith("ms_ssim") for key in quality)
    with pytest.raises(ValueError, match="at least 11 pixels, got 10"):
        ms_ssim_weights(10)


def test_colour_faces_in_the_range_of_tanh():
    """As CelebA's: three channels of 64 pixels in [-1, 1], three scales."""
    x, noise = draw(3, 3, 64, 64), 0.1 * draw(3, 3, 64, 64, seed=1)
    y = (x + noise).clamp(0, 1)
    quality = image_quality(x * 2 - 1, y * 2 - 1, value_range=(-1.0, 1.0))
    assert quality["ms_ssim_scales"] == 3
    assert quality["rmse"]["mean"] == pytest.approx(rmse(x, y).mean().item(), abs=1e-6)
    by_channel = torch.stack([ms_ssim(x[:, [c]], y[:, [c]]) for c in range(3)])
    # products of means over channels, not means of products: near, not equal
    assert quality["ms_ssim"]["mean"] == pytest.approx(by_channel.mean().item(), abs=5e-3)
