"""Every packaged configuration is read, and says what its file name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcorr_models.command_parsers import build_parser
from dcorr_models.data import Cars3D, ClassFolders, LabelledImages, SmallNORB
from dcorr_models.methods import LORD, LrLiVAE
from dcorr_models.methods.lord_settings import Scale
from dcorr_models.packaged_configs import CONFIGS

PATHS = sorted(CONFIGS.glob("*.yaml"))
STAGES = {
    "AEXCov": ["autoencoder"],
    "CDNet": ["label_encoder", "disentangle"],
    "CVAE": ["cvae"],
    "CVAEGAN": ["cvae_gan"],
    "CycleVAE": ["cycles"],
    "DrNet": ["drnet"],
    "IcGAN": ["gan", "encoders"],
    "LORD": ["codes", "encoders"],
    "LrLiVAE": ["lr_livae"],
    "MLVAE": ["groups"],
    "MddAE": ["joint"],
    "ProjectionCGAN": ["gan"],
    "VAEGAN": ["vae_gan", "code_means"],
}
VARIANTS = {
    "ae": {"": "AE"},
    "disae": {"": "disAE", "xcov": "disAE-XCov"},
    "mddae": {"xcov": "mddAE-XCov", "dcov": "mddAE-dCov"},
}


def a_few_images(method: LORD) -> LabelledImages:
    """Two classes with two images each, or two images with attributes."""
    labels = torch.tensor([0, 0, 1, 1], device="cpu")
    if method.multilabel:
        labels = torch.zeros(4, method.num_labels)
    return LabelledImages(torch.zeros(4, *method.image_shape, dtype=torch.uint8), labels)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_config_is_accepted_and_makes_its_method(path: Path):
    parser, commands = build_parser()
    words = ["train", "--config", str(path), "--run", "unused"]
    if "reconstruction: vgg16" in path.read_text():
        words.append("--method.reconstruction_weights=random")
    options = parser.parse_args(words)
    with torch.device("meta"):
        objects = commands["train"].instantiate(options.train)
        if isinstance(objects.method, LORD):
            objects.method.meet(a_few_images(objects.method))
    stages = STAGES[type(objects.method).__name__]
    if isinstance(objects.method, LORD) and not objects.method.variant.second_stage:
        stages = ["codes"]
    if isinstance(objects.method, LrLiVAE) and objects.method.takes_unlabelled:
        stages = [*stages, "semi_supervised"]
    assert [stage.name for stage in objects.method.stages()] == stages
    # What files of the release alone know.
    counts = {Cars3D: 183, SmallNORB: 2700, ClassFolders: 530}
    assert objects.method.num_labels == (
        counts.get(type(objects.data)) or len(objects.data.label_names)
    )
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
    if kind == "LORD":
        given = {name: value for name, value in vars(method).items() if value is not None}
        last = words[-1] if words[-1] in ("keras", "paper") else "port"
        assert method.scale == last
        if "small" not in words:
            assert not given.keys() & {*Scale._fields, "steps", "encoder_steps"}, "whole columns"
        variant = "-".join(words[1 : words.index("sprites")]) if "sprites" in words else "lord"
        assert method.variant == (variant or "lord")
        return
    if kind == "LrLiVAE":
        named = {"without": "none", "dcov": "dcov"}
        assert method.adversary == next((named[w] for w in words if w in named), "classifier")
        assert method.use_discriminator == ("vae" not in words)
        assert (method.unlabelled != "none") == ("semi" in words)
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
