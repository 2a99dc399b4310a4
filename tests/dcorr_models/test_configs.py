"""Every packaged configuration is read, and says what its file name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcorr_models.command_parsers import build_parser
from dcorr_models.data import Cars3D
from dcorr_models.packaged_configs import CONFIGS

PATHS = sorted(CONFIGS.glob("*.yaml"))
STAGES = {
    "AEXCov": ["autoencoder"],
    "CDNet": ["label_encoder", "disentangle"],
    "CycleVAE": ["cycles"],
    "DrNet": ["drnet"],
    "IcGAN": ["gan", "encoders"],
    "MLVAE": ["groups"],
    "MddAE": ["joint"],
    "VAEGAN": ["vae_gan", "code_means"],
}
VARIANTS = {
    "ae": {"": "AE"},
    "disae": {"": "disAE", "xcov": "disAE-XCov"},
    "mddae": {"xcov": "mddAE-XCov", "dcov": "mddAE-dCov"},
}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_is_accepted_and_makes_its_method(path: Path):
    parser, commands = build_parser()
    words = ["train", "--config", str(path), "--run", "unused"]
    if "reconstruction: vgg16" in path.read_text():
        words.append("--method.reconstruction_weights=random")
    options = parser.parse_args(words)
    with torch.device("meta"):
        objects = commands["train"].instantiate(options.train)
    stages = STAGES[type(objects.method).__name__]
    assert [stage.name for stage in objects.method.stages()] == stages
    # Cars3D counts its files.
    names = [""] * 183 if isinstance(objects.data, Cars3D) else objects.data.label_names
    assert objects.method.num_labels == len(names)
    assert path.read_text().startswith("# "), "a config begins by saying what it is"


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_names_and_settings_agree(path: Path):
    parser, _ = build_parser()
    arguments = parser.parse_args(["train", "--config", str(path), "--run", "unused"]).train
    kind, method = arguments.method.class_path.split(".")[-1], arguments.method.init_args
    words = path.stem.split("_")
    regulariser = next((word for word in ("dcov", "xcov") if word in words), "")
    if kind == "MddAE":
        assert method.variant == VARIANTS[words[0]][regulariser]
        assert method.decorrelation is None, "the variant says it"
        return
    if regulariser:
        assert method.decorrelation == {"dcov": "dcov2", "xcov": "xcov"}[regulariser]
    if kind != "CDNet":
        return
    ablation = (method.pixel_weight > 0, method.feature_weight > 0, method.adversarial_weight > 0)
    expected = {"m1": (True, False, False), "m2": (False, True, True), "m3": (True, True, True)}
    for name, weights in expected.items():
        if name in words:
            assert ablation == weights
            assert method.decorrelation == "none"
