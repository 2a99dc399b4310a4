"""Images drawn from latent numbers: how real they look, and whether they keep their numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dcorr_models import editing
from dcorr_models.data.base import Splits
from dcorr_models.data.views import some_rows
from dcorr_models.editing.passes import to_networks_of
from dcorr_models.errors import UserError
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.generation_features import feature_network, read_features
from dcorr_models.evaluation.image_pool import Pool
from dcorr_models.methods.latent_variable import LatentVariable
from dcorr_models.metrics.factor_network import FEATURES, FactorNetwork, train_factor_network
from dcorr_models.metrics.frechet_distance import frechet_distance
from dcorr_models.metrics.latent_likelihood import code_log_likelihood, gilbo

__all__ = ["alignment", "drawn_images"]

_BATCH = 250
_DRAWN = 10_000  # images, where the protocol asks for all that there are
_HELD_OUT = 2_000  # test images by which the network's accuracy is known


def drawn_images(
    method: LatentVariable,
    splits: Splits,
    protocol: DisentanglementProtocol,
    *,
    seed: int,
    names: Sequence[str] = (),
) -> dict[str, Any]:
    """`generation` of evaluation.json: the Fréchet distance of drawn images from real ones.

    Real images are drawn from all splits, as many as are drawn from the codes, if there are. Beside
    the distance stands that of other real images, where enough are left.
    """
    pool, count = Pool(splits), protocol.samples or _DRAWN
    drawn_from = protocol.drawn_from if method.has_encoder else "prior"
    result: dict[str, Any] = {"samples_from": _WORDS[drawn_from], "seed": seed}
    if protocol.features == "factors" and pool.factors is None:
        why = "these data know no factors: choose other features (--disentanglement.features)"
        return {**result, "skipped": {"frechet": why}}
    if protocol.features == "factors":
        trained = _factor_network(splits, protocol, seed=seed)
        network, features = trained.trunk, "ConvNet trained on these data's factors"
        result["network"] = _described(trained, protocol, names)
    else:
        network, features = feature_network(protocol.features, None, splits.test.value_range)
    network = to_device_of(network, method)
    value_range = splits.test.value_range
    order = pool.rows(None, seed=seed)

    def real(rows: Tensor) -> Tensor:
        parts = (pool.images(part) for part in torch.split(rows, _BATCH))
        return torch.cat([read_features(network, part, value_range) for part in parts])

    draw = Drawing(method, pool, drawn_from, seed=seed)
    sampled = (draw(size)[1] for size in _batches(count))
    found = torch.cat([read_features(network, part, value_range) for part in sampled])
    reference = real(order[:count])
    result["frechet"] = dict(frechet_distance(reference, found, features=features))
    others = order[count : 2 * count]
    if len(others) > max(2, FEATURES if protocol.features == "factors" else 2):
        floor = frechet_distance(reference, real(others), features=features)
        result["frechet"] |= {"of_real": floor["distance"], "others": len(others)}
    return {**result, "skipped": {}}


def alignment(
    method: LatentVariable, pool: Pool, protocol: DisentanglementProtocol, *, seed: int
) -> dict[str, Any]:
    """`alignment` of evaluation.json: what encoders read of the codes of drawn images.

    Codes are drawn from the aggregated posterior, as those that ID-GAN's term is taken over; from
    the prior where there is no encoder.
    """
    drawn_from = "aggregated" if method.has_encoder else "prior"
    result: dict[str, Any] = {"codes_from": _WORDS[drawn_from], "seed": seed}
    if method.has_encoder:
        draw = Drawing(method, pool, drawn_from, seed=seed)
        parts = []
        with editing.inference(method):
            for size in _batches(protocol.aligned_samples):
                codes, images = draw(size)
                parts.append((codes, *method.posterior(images)))
        read = [torch.cat(column) for column in zip(*parts, strict=True)]
        result["l_id"] = code_log_likelihood(*read)
    if protocol.gilbo_steps:
        result["gilbo"] = gilbo(
            Drawing(method, pool, drawn_from, seed=seed + 1),
            value_range=method.value_range or (0.0, 1.0),
            steps=protocol.gilbo_steps,
            held_out=protocol.aligned_samples,
            seed=seed,
        )
    return result


_WORDS = {"prior": "the prior, N(0, I)", "aggregated": "the posterior of real images"}


class Drawing:
    """Codes and their images, newly drawn at each call, on the method's device.

    Args:
        method: what draws.
        pool: images whose posterior is drawn from.
        drawn_from: `prior` or `aggregated`.
        seed: of codes, nuisance numbers and images.
    """

    def __init__(self, method: LatentVariable, pool: Pool, drawn_from: str, *, seed: int) -> None:
        self.method, self.pool, self.drawn_from = method, pool, drawn_from
        device = next(method.parameters()).device
        self.generator = torch.Generator(device).manual_seed(seed)
        self.rows = torch.Generator().manual_seed(seed)

    def __call__(self, count: int) -> tuple[Tensor, Tensor]:
        """Codes (count, latent_dim) and images.

        Raises:
            UserError: the images hold NaN or infinity.
        """
        method = self.method
        with editing.inference(method):
            if self.drawn_from == "prior":
                codes = method.sample_codes(count, generator=self.generator)
            else:
                rows = torch.randint(len(self.pool), (count,), generator=self.rows)
                images = to_networks_of(method, self.pool.images(rows))
                codes = method.posterior(images).draw(generator=self.generator)
            drawn = method.generate(codes, generator=self.generator)
        if not drawn.isfinite().all():
            raise UserError(
                f"images drawn by this {type(method).__name__} hold NaN or infinity: its weights "
                "are broken"
            )
        return codes, drawn


def to_device_of(network: nn.Module, method: LatentVariable) -> nn.Module:
    """The network where the method is."""
    return network.to(next(method.parameters()).device)


def _factor_network(
    splits: Splits, protocol: DisentanglementProtocol, *, seed: int
) -> FactorNetwork:
    test = splits.test
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed))
    return train_factor_network(
        splits.train,
        held_out=some_rows(test, order[:_HELD_OUT]) if len(test) else None,
        images=protocol.network_images,
        epochs=protocol.network_epochs,
        seed=seed,
    )


def _described(
    network: FactorNetwork, protocol: DisentanglementProtocol, names: Sequence[str]
) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if network.accuracy is not None and network.chance is not None:
        known = {
            "accuracy": sum(network.accuracy) / len(network.accuracy),
            "per_factor": list(network.accuracy),
            "chance": list(network.chance),
        }
    return {
        **known,
        "names": [names[k] for k in network.columns if k < len(names)],
        "images": network.train_images,
        "epochs": protocol.network_epochs,
    }


def _batches(count: int) -> Iterator[int]:
    for first in range(0, count, _BATCH):
        yield min(_BATCH, count - first)
