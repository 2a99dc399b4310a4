"""Codes of new images without an encoder: LORD without its second stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Adam

from dcorr_models.methods.base import Codes
from dcorr_models.training.stage import frozen

__all__ = ["optimised_codes"]


def optimised_codes(
    generator: nn.Module,
    reconstruction: nn.Module,
    images: Tensor,
    start: Codes,
    *,
    decay: float,
    steps: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> Codes:
    r"""Both codes of each image, found by Adam while the generator stays as it is.

    Minimises $\mathrm{rec}(G(e, c), x) + \lambda \lVert c \rVert^2$ for each image by itself, from
    `start`, without noise: the codes of an image depend on no other image and on no random number.

    Args:
        generator: called with (class code, content code).
        reconstruction: called with (x̂, x), the mean over the images of their losses.
        images: (N, C, H, W).
        start: the codes to begin at, (1, class_dim) and (1, content_dim).
        decay: λ.
        steps: updates.
        lr: learning rate.
        betas: Adam's two decay rates.
        eps: Adam's ε.

    Returns:
        (N, class_dim) and (N, content_dim), without a graph.
    """
    count = len(images)
    with torch.enable_grad(), frozen(generator):
        codes = [code.detach().repeat(count, 1).requires_grad_() for code in start]
        optimizer = Adam(codes, lr=lr, betas=betas, eps=eps)
        for _ in range(steps):
            optimizer.zero_grad(set_to_none=True)
            # Times N: the gradient of an image's codes is then that of its own loss.
            loss = count * reconstruction(generator(*codes), images)
            (loss + decay * codes[1].square().sum()).backward()
            optimizer.step()
    return Codes(*(code.detach() for code in codes))
