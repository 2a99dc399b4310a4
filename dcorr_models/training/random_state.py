"""Every random state that a training step may draw from, as plain tensors."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

__all__ = ["get_random_state", "seed_everything", "set_random_state"]

RandomState = dict[str, Tensor]


def seed_everything(seed: int) -> None:
    """Seeds torch (all devices), numpy and Python's own generator."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - users' transforms may draw from the legacy state
    random.seed(seed)


def get_random_state() -> RandomState:
    """The current states of torch, numpy, Python and, where there is one, the CUDA device."""
    version, words, gauss = random.getstate()
    # `legacy=False` gives names; the array holds 32-bit words.
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002
    inner = numpy_state["state"]
    state = {
        "torch": torch.get_rng_state(),
        "numpy_key": torch.from_numpy(inner["key"].astype(np.int64)),
        "numpy_rest": torch.tensor(
            [inner["pos"], numpy_state["has_gauss"], numpy_state["gauss"]], dtype=torch.float64
        ),
        "python_words": torch.tensor(words, dtype=torch.int64),
        "python_rest": torch.tensor(
            [version, gauss is not None, gauss or 0.0], dtype=torch.float64
        ),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: RandomState) -> None:
    """Puts back what `get_random_state` returned; a missing CUDA state is left as it is."""
    torch.set_rng_state(state["torch"].cpu())
    position, has_gauss, gauss = state["numpy_rest"].tolist()
    np.random.set_state(  # noqa: NPY002
        (
            "MT19937",
            state["numpy_key"].cpu().numpy().astype(np.uint32),
            int(position),
            int(has_gauss),
            gauss,
        )
    )
    version, has_python_gauss, python_gauss = state["python_rest"].tolist()
    words = tuple(int(word) for word in state["python_words"].tolist())
    random.setstate((int(version), words, python_gauss if has_python_gauss else None))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
