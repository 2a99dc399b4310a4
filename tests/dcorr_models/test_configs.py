"""Every packaged configuration is read, and says what its file name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcorr_models.cli import CONFIGS, build_parser

PATHS = sorted(CONFIGS.glob("*.yaml"))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_is_accepted_and_makes_its_method(path: Path):
    parser, commands = build_parser()
    options = parser.parse_args(["train", "--config", str(path), "--run", "unused"])
    with torch.device("meta"):
        objects = commands["train"].instantiate(options.train)
    assert [stage.name for stage in objects.method.stages()] == ["label_encoder", "disentangle"]
    assert objects.method.num_labels == len(objects.data.label_names)
    assert path.read_text().startswith("# "), "a config begins by saying what it is"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_names_and_settings_agree(path: Path):
    parser, _ = build_parser()
    arguments = parser.parse_args(["train", "--config", str(path), "--run", "unused"]).train
    method = arguments.method.init_args
    words = path.stem.split("_")
    if "dcov" in words:
        assert method.decorrelation == "dcov2"
    if "xcov" in words:
        assert method.decorrelation == "xcov"
    ablation = (method.pixel_weight > 0, method.feature_weight > 0, method.adversarial_weight > 0)
    expected = {"m1": (True, False, False), "m2": (False, True, True), "m3": (True, True, True)}
    for name, weights in expected.items():
        if name in words:
            assert ablation == weights
            assert method.decorrelation == "none"
