"""Memory format and compilation: the same training up to rounding, the same names, resumable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor

from dcorr_models.methods import CDNet
from dcorr_models.nets.cdnet import ARCHITECTURES, ConvEncoder
from dcorr_models.training.execution import Execution
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.toy import ToyImages, toy_cdnet

# What docs/training_speed.md states, for one step from the same weights and dropout masks:
# relative difference of a loss, and of a player's gradient in norm. A LeakyReLU whose input is a
# rounding error from 0 takes the other slope, which is what moves the gradients of channels_last.
ROUNDING = (1e-5, 2e-2)
BFLOAT16 = (5e-3, 0.3)
PLAYERS = ("residual_encoder", "decoder", "discriminator")
CHANNELS_LAST = Execution(channels_last=True)
COMPILED = Execution(compile=True)


def conv_cdnet(**options: object) -> CDNet:
    """A toy CDNet whose networks have convolutions, with dropout."""
    networks = dict.fromkeys(("label_encoder", "residual_encoder", "decoder", "discriminator"))
    return toy_cdnet(**({"label_lr": 1e-4, "lr": 1e-4} | networks | options))


def train(model: CDNet, folder: Path, execution: Execution, *, steps: int = 5) -> CDNet:
    for stage in model.stages():
        stage.max_steps = steps if stage.name == "disentangle" else 3
        fit(
            stage,
            ToyImages().splits().train,
            fabric=Fabric(accelerator="cpu", devices=1),
            folder=folder,
            seed=5,
            settings=LoopSettings(progress=False),
            execution=execution,
        )
    return model


def one_step(
    execution: Execution, *, precision: str = "32-true", **options: object
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """Losses, each player's whole gradient, and the names of the weights of one step."""
    model = conv_cdnet(lr=0.0, **options)
    stage = model.stages()[1]
    stage.execution = execution
    stage.setup(Fabric(accelerator="cpu", devices=1, precision=precision))
    torch.manual_seed(3)
    logs = stage.step(execution.place(ToyImages().splits().train.__getitems__(range(24))))
    gradients = {
        name: torch.cat([p.grad.flatten() for p in getattr(model, name).parameters()])
        for name in PLAYERS
    }
    names = [name for network in stage.networks.values() for name in network.state_dict()]
    return logs, gradients, names


def assert_same_step(execution: Execution, limits: tuple[float, float], **options: object) -> None:
    precision = options.pop("precision", "32-true")
    logs, gradients, names = one_step(Execution(), **options)
    other = one_step(execution, precision=precision, **options)
    assert other[2] == names
    for name, value in logs.items():
        assert other[0][name].dtype == torch.float32
        assert other[0][name].item() == pytest.approx(value.item(), rel=limits[0], abs=1e-6), name
    for name, gradient in gradients.items():
        assert (other[1][name] - gradient).norm() < limits[1] * gradient.norm(), name


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
def test_channels_last_changes_a_step_by_rounding_alone(updates):
    assert_same_step(CHANNELS_LAST, ROUNDING, updates=updates)


@pytest.mark.slow
def test_compiling_changes_a_step_by_rounding_alone():
    assert_same_step(COMPILED, ROUNDING)


@pytest.mark.parametrize("updates", ["simultaneous", "sequential"])
@pytest.mark.parametrize("multilabel", [False, True])
def test_bfloat16_keeps_losses_in_float32_and_near(updates, multilabel):
    assert_same_step(
        CHANNELS_LAST, BFLOAT16, precision="bf16-mixed", updates=updates, multilabel=multilabel
    )


@pytest.mark.parametrize(
    "execution",
    [CHANNELS_LAST, pytest.param(COMPILED, marks=pytest.mark.slow)],
    ids=["channels_last", "compile"],
)
def test_resuming_equals_never_stopping(tmp_path, execution):
    whole = train(conv_cdnet(), tmp_path / "whole", execution)
    train(conv_cdnet(), tmp_path / "parts", execution, steps=2)
    resumed = train(conv_cdnet(seed=99), tmp_path / "parts", execution)
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_every_network_is_compiled_and_the_method_itself_is_not(monkeypatch):
    compiled = []

    def watched(network, **options):
        compiled.append(network)
        assert options["options"]["fallback_random"]
        return network

    monkeypatch.setattr(torch, "compile", watched)
    model = toy_cdnet()
    stage = model.stages()[1]
    stage.execution = COMPILED
    stage.setup(Fabric(accelerator="cpu", devices=1))
    networks = (model.label_encoder, model.residual_encoder, model.decoder, model.discriminator)
    assert compiled == list(networks)


def test_images_are_placed_in_the_format_of_the_networks():
    batch = {"image": torch.rand(2, 3, 4, 4), "label": torch.zeros(2, 5)}
    placed = CHANNELS_LAST.place(batch)
    assert placed["image"].is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(placed["image"], batch["image"])
    assert placed["label"] is batch["label"]
    assert Execution().place(batch) is batch


def test_graphs_without_compiling_are_refused():
    with pytest.raises(ValueError, match="needs compile as well"):
        Execution(cuda_graphs=True)


def test_only_kernels_of_convolutions_change_their_layout():
    network = ConvEncoder((3, 12, 12), ARCHITECTURES["mnist"], 4)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    CHANNELS_LAST.prepare(network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous() == (value.ndim != 4), name
