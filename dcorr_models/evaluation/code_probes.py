"""What class and content codes tell of each other: probes, and regression of targets."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dcorr_models import editing
from dcorr_models.data.base import LabelledImages, Splits
from dcorr_models.editing.passes import to_networks_of
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.common import encode
from dcorr_models.methods.base import Codes
from dcorr_models.methods.class_content import ClassContent
from dcorr_models.metrics.code_classifier import code_classifier, hold_out
from dcorr_models.metrics.target_regression import target_regression

__all__ = ["Sample", "Samples", "code_probes", "content_posterior", "draw_samples", "regressions"]

_BATCH = 500


class Sample(NamedTuple):
    """Codes of some images, and what is known of the images."""

    codes: Codes
    labels: Tensor
    content: Tensor | None
    targets: Tensor | None


class Samples(NamedTuple):
    """What probes learn from, and what they are scored on: other images of the same classes."""

    train: Sample
    held_out: Sample
    split: str  # that the held-out images are from
    drawn: bool  # content codes are draws from the method's posterior


def draw_samples(
    method: ClassContent, splits: Splits, protocol: ClassContentProtocol, *, seed: int
) -> Samples:
    """Codes of training images, and of held-out images of the training classes.

    Held out are the test images where all their classes are trained on; else the images that
    validate; else, where whole classes test and nothing validates, a share of the training images,
    which the method has seen and the probes have not.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(splits.train), generator=generator)[: protocol.probe_images]
    learn = rows.sort().values
    name, split = _held_out(splits)
    score = torch.arange(len(split))
    if name == "train":
        parts = hold_out(splits.train.labels[learn], protocol.probe_share, seed=seed)
        learn, score = (learn[part] for part in parts)
    return Samples(
        _sample(method, splits.train, learn, generator),
        _sample(method, split, score, generator),
        name,
        method.probes_read_samples,
    )


def code_probes(samples: Samples, protocol: ClassContentProtocol, *, seed: int) -> dict[str, Any]:
    """`probes` of evaluation.json: the class read from content codes, contents from class codes."""
    train, held_out, split, drawn = samples
    result: dict[str, Any] = {"held_out": split, "content_codes": "drawn" if drawn else "encoded"}
    reasons: dict[str, str] = {}
    pairs = {
        "class_from_content": (1, train.labels, held_out.labels),
        "content_from_class": (0, train.content, held_out.content),
    }
    for name, (code, learn, score) in pairs.items():
        if train.labels.ndim > 1 and name == "class_from_content":
            reasons[name] = "an image has several attributes, not one class"
        elif learn is None or score is None:
            reasons[name] = "the data do not say which content an image shows"
        elif len(torch.unique(learn)) < 2:
            reasons[name] = "the training images have one label alone"
        elif not len(kept := torch.isin(score, learn).nonzero()[:, 0]):
            reasons[name] = f"no held-out image ({split}) has a label of the training images"
        else:
            measured = code_classifier(
                train.codes[code],
                learn,
                held_out.codes[code][kept],
                score[kept],
                steps=protocol.probe_steps,
                standardised=protocol.probe_standardised,
                seed=seed,
            )
            result[name] = {**measured, "left_out": len(score) - len(kept)}
    return {**result, "skipped": reasons}


def regressions(samples: Samples, protocol: ClassContentProtocol) -> dict[str, Any]:
    """`regression` of evaluation.json: the data's targets from either code."""
    train, held_out = samples.train, samples.held_out
    if train.targets is None or held_out.targets is None:
        return {"skipped": {"targets": "the data have no targets, such as landmarks"}}
    codes = {"class_code": 0, "content_code": 1}
    return {
        name: target_regression(
            train.codes[code],
            train.targets,
            held_out.codes[code],
            held_out.targets,
            unit=protocol.target_unit,
        )
        for name, code in codes.items()
    }


def content_posterior(
    method: ClassContent, images: LabelledImages, rows: Tensor | None = None
) -> tuple[Tensor, Tensor] | None:
    """Mean and log variance of the content codes on the CPU; None without a posterior."""
    rows = torch.arange(len(images)) if rows is None else rows
    means, logvars = [], []
    with editing.inference(method):
        for part in torch.split(rows, _BATCH):
            batch = images.__getitems__(part.tolist())["image"]
            found = method.posterior(to_networks_of(method, batch))
            if found is None:
                return None
            means.append(found[0].cpu())
            logvars.append(found[1].cpu())
    return torch.cat(means), torch.cat(logvars)


def _held_out(splits: Splits) -> tuple[str, LabelledImages]:
    """The first split with images of training classes alone."""
    for name, split in (("test", splits.test), ("valid", splits.valid)):
        if len(split) and bool(torch.isin(split.labels, splits.train.labels).all()):
            return name, split
    return "train", splits.train


def _sample(
    method: ClassContent, images: LabelledImages, rows: Tensor, generator: torch.Generator
) -> Sample:
    codes = encode(method, images, rows)
    if method.probes_read_samples:
        posterior = content_posterior(method, images, rows)
        assert posterior is not None, "a method whose probes read samples has a posterior"
        mean, logvar = posterior
        noise = torch.randn(mean.shape, generator=generator)
        codes = Codes(codes.label, mean + (logvar / 2).exp() * noise)
    content, targets = (None if t is None else t[rows] for t in (images.content, images.targets))
    return Sample(codes, images.labels[rows], content, targets)
