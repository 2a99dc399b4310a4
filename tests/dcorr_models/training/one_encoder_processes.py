"""Run by test_one_encoder_processes.py: trains a toy MddAE or AEXCov on two processes.

Without batch norm and dropout a network sees each image for itself, so the number of processes
changes nothing but the regulariser, if that.

    python -m tests.dcorr_models.training.one_encoder_processes FOLDER CASE
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from lightning_fabric import Fabric

from dcorr_models.methods import AEXCov, MddAE
from dcorr_models.training.fit import LoopSettings, fit
from tests.dcorr_models.methods.one_encoder_toys import toy
from tests.dcorr_models.toy import ToyImages
from tests.dcorr_models.training.global_batch import PlainDecoder, encoder

CASES: dict = {
    "mddAE-dCov": (MddAE, {}),
    "disAE-XCov": (MddAE, {"variant": "disAE-XCov"}),
    "sequential": (AEXCov, {}),
    "simultaneous": (AEXCov, {"updates": "simultaneous"}),
}


def work(fabric: Fabric, folder: Path, case: str) -> None:
    torch.manual_seed(0)
    method, options = CASES[case]
    model = toy(method, encoder=encoder(7), decoder=PlainDecoder(), **options)
    settings = LoopSettings(progress=False, log_every=1)
    for stage in model.stages():
        data = ToyImages().splits().train
        fit(stage, data, fabric=fabric, folder=folder, seed=5, settings=settings)
    torch.save(model.state_dict(), folder / f"rank{fabric.global_rank}.pt")


def main() -> None:
    fabric = Fabric(accelerator="cpu", devices=2, strategy="ddp_spawn")
    fabric.launch(work, Path(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
