"""The small configs, from the command line: all at a tenth of their updates, some to their end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from dcorr_models.cli import main
from dcorr_models.packaged_configs import CONFIGS

SMALL = sorted(path.stem for path in CONFIGS.glob("*_small.yaml"))
# The same protocol on few images: a twentieth of the time.
QUICK = {
    "svm_test_images": 20,
    "svm_repeats": 1,
    "svm_train_images": 100,
    "edit_images": 50,
    "classifier_images": 500,
    "classifier_epochs": 1,
    "probe_images": 500,
}
QUICK_TRANSFER = {"pairs": 50, "probe_steps": 100, "probe_images": 300}
QUICK_GENERATION = {
    "samples": 20,
    "classifier_epochs": 1,
    "diversity_images": 10,
    "probe_images": 300,
}
QUICK_LATENT = {
    "samples": 500,
    "network_images": 500,
    "network_epochs": 1,
    "gilbo_steps": 10,
    "aligned_samples": 100,
    "reconstructions": 100,
    "features": "pixels",
}
PROTOCOLS = ("--attributes.", "--transfer.", "--generation.", "--disentanglement.")
DIGITS = "dcorr_models.data.BundledDigits"


def measured(folder: Path, config: str, *words: object) -> Mapping[str, Any]:
    """Trains, evaluates and reports as a user would; the content of evaluation.json."""
    quick = [str(word) for word in words if str(word).startswith(PROTOCOLS)]
    options = [str(word) for word in words if not str(word).startswith(PROTOCOLS)]
    run = str(folder / config)
    training = ["train", "--config", config, "--run", run, "--accelerator", "cpu"]
    assert main([*training, "--loop.progress", "false", *options]) == 0
    assert main(["evaluate", run, *quick]) == 0
    assert main(["report", run]) == 0
    assert (folder / config / "report.html").stat().st_size > 10_000
    found: Mapping[str, Any] = json.loads((folder / config / "evaluation.json").read_text())
    return found


def tenths(settings: Mapping[str, Any], place: str = "--method") -> list[str]:
    """Options for a tenth of the updates, also of a stage's own settings within the method's."""
    options = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            inner, path = value.get("init_args", value), f"{place}.{name}"
            options += tenths(inner, f"{path}.init_args" if "init_args" in value else path)
        elif name.endswith("steps"):
            options.append(f"{place}.{name}={max(2, value // 10)}")
    return options


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("config", SMALL)
def test_every_small_config_trains_measures_and_reports(tmp_path: Path, config: str):
    settings = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())
    shorter = tenths(settings["method"]["init_args"])
    assert shorter, "a small config says how long it trains"
    draws = config.startswith(("lr_livae", "cvae", "cgan"))
    if draws:
        # Real digits of the same form: MNIST and Fashion-MNIST come with no package.
        shorter.append(f"--{'data.data' if 'semi' in config else 'data'}={DIGITS}")
    latent = settings["data"]["class_path"].endswith(("GreySprites", "SpriteVariant"))
    faces = "faces" in config
    content = not latent and ("sprites" in config or config.startswith("lr_livae"))
    quick = [f"--attributes.{name}={value}" for name, value in QUICK.items() if faces]
    quick += [f"--transfer.{name}={value}" for name, value in QUICK_TRANSFER.items() if content]
    quick += [f"--generation.{name}={value}" for name, value in QUICK_GENERATION.items() if draws]
    quick += [f"--disentanglement.{name}={v}" for name, v in QUICK_LATENT.items() if latent]
    found = measured(tmp_path, config, *shorter, *quick)
    if latent:
        assert found["kind"] == "latent"
        return
    if config.startswith("cgan"):
        assert (found["kind"], "reconstruction" in found) == ("generation", False)
        return
    assert 0 < found["reconstruction"]["rmse"]["mean"] < 0.6
    kind = "class_content" if content else "attributes" if faces else "classes"
    assert found["kind"] == kind


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_run_on_faces_edits_what_was_asked_for_and_leaves_the_rest(tmp_path: Path):
    """Far from the figures of docs/results/cdnet.md, and from those without a regulariser."""
    found = measured(tmp_path, "cdnet_faces_dcov_small")
    assert found["reconstruction"]["rmse"]["mean"] < 0.15
    assert found["edits"]["mean_diagonal"] > 0.7
    assert found["edits"]["mean_off_diagonal"] < 0.06
    assert found["svm"]["mean_error"] < 0.05


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_whole_run_on_digits_writes_other_digits(tmp_path: Path):
    found = measured(tmp_path, "cdnet_digits_dcov_small")
    assert found["editing"]["recognised"] > 0.9
    assert found["leakage"]["linear_probe"] < 0.3
