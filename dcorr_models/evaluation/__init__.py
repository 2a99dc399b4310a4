"""Which metrics a trained method is measured by, on held-out data; the content of evaluation.json.

Keys of both kinds of methods, where they apply:

`format`, `kind` ("classes" or "attributes"), `split`, `num_images`, `seconds`, and
`reconstruction`: see `metrics.image_quality`.

Exclusive classes: `leakage` (`metrics.leakage`), `soft_target.accuracy`, and `editing`
(`metrics.recognition`: Case 1 edits of every test image to every other class).

Attributes: `leakage` (`metrics.leakage_attributes`); `soft_target` with the mean `accuracy` and a
list `per_attribute` in the order of `names`; `svm` (`metrics.svm_editing`); `edits`
(`metrics.attribute_recognition`, and `values`: what is written to take an attribute away and to
give it). Each of `leakage`, `svm` and `edits` has under `skipped` the names of attributes that
could not be measured, with the reason, and nothing else if none could.

A method without a label code has `reconstruction` and `leakage` with `dcor: null`.
"""

from __future__ import annotations

from dcorr_models.evaluation.common import encode_split
from dcorr_models.evaluation.dispatch import evaluate
from dcorr_models.evaluation.protocol import AttributeProtocol

__all__ = ["AttributeProtocol", "encode_split", "evaluate"]
