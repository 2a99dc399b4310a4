"""Every packaged configuration is read, and says what its file name says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dcorr_models.command_parsers import build_parser
from dcorr_models.data import Cars3D, ClassFolders, LabelledImages, SmallNORB
from dcorr_models.methods import IDGAN, LORD, LrLiVAE
from dcorr_models.methods.lord_settings import Scale
from dcorr_models.packaged_configs import CONFIGS

PATHS = sorted(CONFIGS.glob("*.yaml"))
STAGES = {
    "AEXCov": ["autoencoder"],
    "AdversarialVAE": ["vae"],
    "BetaTCVAE": ["vae"],
    "BetaVAE": ["vae"],
    "CDNet": ["label_encoder", "disentangle"],
    "CVAE": ["cvae"],
    "CVAEGAN": ["cvae_gan"],
    "CycleVAE": ["cycles"],
    "DCovVAE": ["vae"],
    "DIPVAE": ["vae"],
    "DrNet": ["drnet"],
    "FactorVAE": ["vae"],
    "GAN": ["gan"],
    "IDGAN": ["vae", "id_gan"],
    "IcGAN": ["gan", "encoders"],
    "InfoGAN": ["info_gan"],
    "LORD": ["codes", "encoders"],
    "LatentCGAN": ["vae", "latent_cgan"],
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
    assert path.read_text().startswith("# "), "a config begins by saying what it is"
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
    if isinstance(objects.method, IDGAN) and objects.method.end_to_end:
        stages = ["end_to_end"]
    if isinstance(objects.method, IDGAN) and objects.method.start_from:
        stages = ["id_gan"]
    assert [stage.name for stage in objects.method.stages()] == stages
    # What files of the release alone know.
    counts = {Cars3D: 183, SmallNORB: 2700, ClassFolders: 530}
    if not objects.method.reads_labels:
        # DSprites knows its labels from its file alone.
        assert objects.method.image_shape == objects.data.image_shape
        assert objects.method.value_range == objects.data.value_range
    else:
        assert objects.method.num_labels == (
            counts.get(type(objects.data)) or len(objects.data.label_names)
        )


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
    if kind == "IDGAN":
        assert method.end_to_end == ("end" in words)
        assert (method.distillation_weight == 0) == ("without" in words)
        return
    if kind == "LrLiVAE":
        named = {"without": "none", "dcov": "dcov"}
        assert method.adversary == next((named[w] for w in words if w in named), "classifier")
        assert method.use_discriminator == ("vae" not in words)
        assert (method.unlabelled != "none") == ("semi" in words)
        return
    if kind == "BetaVAE":
        assert (method.beta == 1.0) == (words[0] == "vae")
        assert (method.capacity is not None) == ("annealed" in words)
        return
    if regulariser and kind != "DCovVAE":
        assert method.decorrelation == {"dcov": "dcov2", "xcov": "xcov"}[regulariser]
    if kind != "CDNet":
        return
    ablation = (method.pixel_weight > 0, method.feature_weight > 0, method.adversarial_weight > 0)
    expected = {"m1": (True, False, False), "m2": (False, True, True), "m3": (True, True, True)}
    for name, weights in expected.items():
        if name in words:
            assert ablation == weights
            assert method.decorrelation == "none"
