"""The joint step that the shared one is timed against has its gradients."""

from __future__ import annotations

import copy

import torch
from players_afresh import AfreshStage

from tests.dcorr_models.methods.lr_livae_toys import BATCH, batch, toy_lr_livae
from tests.dcorr_models.methods.rival_toys import prepared


def test_gradients_of_players_afresh_are_those_of_the_shared_step() -> None:
    model = toy_lr_livae(n_gm=0, joint_batch="last", lr=0.0)
    twin = copy.deepcopy(model)
    shared, afresh = prepared(model), AfreshStage(twin, name="afresh", steps=1)
    afresh.setup(shared.fabric)
    for one, stage in ((model, shared), (twin, afresh)):
        # Spectral norm follows its weight by one step a pass: none in evaluation.
        one.discriminator.eval()
        torch.manual_seed(0)
        stage.step(batch(BATCH))
    players = ("class_encoder", "content_encoder", "decoder", "discriminator", "adversary")
    for player in players:
        pairs = zip(*(getattr(m, player).parameters() for m in (model, twin)), strict=True)
        for own, other in pairs:
            torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-7)
