"""The evaluation of methods of independent latent numbers: VAEs, ID-GAN and its rivals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import Splits
from dcorr_models.data.views import some_rows as view_of
from dcorr_models.editing.passes import to_networks_of
from dcorr_models.errors import UserError
from dcorr_models.evaluation.common import some_rows, start
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.image_pool import Pool
from dcorr_models.evaluation.latent_samples import alignment, drawn_images
from dcorr_models.methods.latent_variable import Gaussian, LatentVariable
from dcorr_models.metrics.active_dimensions import Cut, active_dimensions
from dcorr_models.metrics.dci import dci
from dcorr_models.metrics.factor_vae_metric import factor_vae_metric
from dcorr_models.metrics.mutual_information_gap import mutual_information_gap
from dcorr_models.metrics.posterior_collapse import posterior_collapse
from dcorr_models.metrics.sap import sap

__all__ = ["evaluate_latent", "posterior_of"]

_BATCH = 500


def evaluate_latent(
    method: LatentVariable,
    splits: Splits,
    protocol: DisentanglementProtocol,
    *,
    seed: int,
    factor_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything but the seconds; see `evaluate`. Without test images nothing is reconstructed."""
    pool = Pool(splits)
    # First: features that cannot be read stop it here, and not after minutes.
    drawn = drawn_images(method, splits, protocol, seed=seed, names=factor_names)
    rows = some_rows(splits.test, protocol.reconstructions, seed=seed)
    result: dict[str, Any] = {
        "format": 1,
        "kind": "latent",
        "split": "test",
        "num_images": len(rows),
    }
    if method.has_encoder:
        if len(rows):
            test = view_of(splits.test, rows)
            result, _, _ = start("latent", method, splits._replace(test=test))
        encoded = pool.rows(protocol.samples, seed=seed)
        posterior = posterior_of(method, pool, encoded)
        result["disentanglement"] = _codes(
            posterior.mean, pool.factors, encoded, protocol, seed=seed, names=factor_names
        )
        result["collapse"] = posterior_collapse(*posterior)
    result["generation"] = drawn
    result["alignment"] = alignment(method, pool, protocol, seed=seed)
    return result


def posterior_of(method: LatentVariable, pool: Pool, rows: Tensor) -> Gaussian:
    """q(c | x) of some images on the CPU; never more than a batch of them at a time.

    Raises:
        UserError: it holds NaN or infinity.
    """
    with editing.inference(method):
        parts = [
            method.posterior(to_networks_of(method, pool.images(part)))
            for part in torch.split(rows, _BATCH)
        ]
    mean, logvar = (torch.cat([part[k].float().cpu() for part in parts]) for k in range(2))
    if not (mean.isfinite().all() and logvar.isfinite().all()):
        raise UserError(
            f"codes of this {type(method).__name__} hold NaN or infinity: its weights are broken"
        )
    return Gaussian(mean, logvar)


def _codes(
    means: Tensor,
    factors: Tensor | None,
    rows: Tensor,
    protocol: DisentanglementProtocol,
    *,
    seed: int,
    names: Sequence[str],
) -> dict[str, Any]:
    """`disentanglement` of evaluation.json: posterior means against ground-truth factors."""
    of: Cut = "std" if protocol.form == "disentanglement_lib" else "variance"
    active = active_dimensions(means, cut=protocol.cut, of=of)
    count = int(active.sum())
    result: dict[str, Any] = {
        "images": len(means),
        "active": count,
        "dimensions": means.shape[1],
        "cut": protocol.cut,
    }
    if factors is None:
        return {**result, "skipped": {"all measures": "these data know no factors of their images"}}
    if count < 2:
        why = (
            f"{count} of {len(active)} dimensions of the code has a {of} of at least "
            f"{protocol.cut:g}, and two are needed: the encoder has collapsed"
        )
        return {**result, "skipped": {"all measures": why}}
    known = factors[rows]
    varied = known.amax(dim=0) > known.amin(dim=0)
    known = known[:, varied]
    result["names"] = [name for name, kept in zip(names, varied.tolist(), strict=False) if kept]
    if known.shape[1] < 2:
        return {**result, "skipped": {"all measures": "fewer than two factors of the images vary"}}
    result["factor_vae"] = factor_vae_metric(
        means, known, form=protocol.form, votes=protocol.votes, cut=protocol.cut, seed=seed
    )
    result["mig"] = mutual_information_gap(means, known, bins=protocol.bins)
    readers = means[: protocol.reader_samples], known[: protocol.reader_samples]
    learn = 2 * len(readers[0]) // 3
    learned, scored = ([part[:learn] for part in readers], [part[learn:] for part in readers])
    if not bool((learned[1].amax(dim=0) > learned[1].amin(dim=0)).all()):
        return {**result, "skipped": {"dci and sap": "too few images: a factor does not vary"}}
    result["dci"] = dci(*learned, *scored, model=protocol.trees, seed=seed)
    result["sap"] = sap(*learned, *scored, form=protocol.sap)
    return {**result, "skipped": {}}
