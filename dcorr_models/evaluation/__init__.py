"""Which metrics a trained method is measured by, on held-out data; the content of evaluation.json.

Keys of all kinds of methods, where they apply:

`format`, `kind` ("classes", "attributes", "class_content" or "latent"), `split`, `num_images`,
`seconds`, and `reconstruction`: see `metrics.image_quality`.

Exclusive classes: `leakage` (`metrics.leakage`), `soft_target.accuracy`, and `editing`
(`metrics.recognition`: Case 1 edits of every test image to every other class).

Attributes: `leakage` (`metrics.leakage_attributes`); `soft_target` with the mean `accuracy` and a
list `per_attribute` in the order of `names`; `svm` (`metrics.svm_editing`); `edits`
(`metrics.attribute_recognition`, and `values`: what is written to take an attribute away and to
give it). Each of `leakage`, `svm` and `edits` has under `skipped` the names of attributes that
could not be measured, with the reason, and nothing else if none could.

Class and content codes: `transfer` (`metrics.content_transfer`); `probes`, with
`class_from_content` and `content_from_class` (`metrics.code_classifier`), and `held_out`, the split
whose images they are scored on; `regression` from `class_code` and from `content_code`
(`metrics.target_regression`); `leakage` with `dcor` alone; and, where content codes have a
posterior, `collapse` (`metrics.posterior_collapse`). What data do not allow is under `skipped`,
with the reason.

Drawn images of a class: `generation` with `inception` (`metrics.inception_score`), `recognised`,
`diversity` (`metrics.intra_class_diversity`), `frechet` (`metrics.frechet_distance`) and what is
known of the judging `classifier`; for points `coverage` (`metrics.axis_coverage`); where the test
split has classes without a label in training, `from_images`; and `skipped`. Methods of class and
content codes also have `purity` (`metrics.class_purity`). A method without an encoder has
`generation` alone, which is then its `kind`.

Independent latent numbers: `disentanglement` of posterior means of images of all splits, with
`factor_vae` (`metrics.factor_vae_metric`), `mig` (`metrics.mutual_information_gap`), `dci`, `sap`,
the number of `active` dimensions, the `names` of the factors, and `skipped`; `collapse`;
`generation` with `frechet` and what is known of the `network` that reads features; `alignment` with
`l_id` and `gilbo` (`metrics.latent_likelihood`). Without an encoder `generation` and `gilbo` alone.

Another method without a label code has `reconstruction` and `leakage` with `dcor: null`.
"""

from __future__ import annotations

from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.common import encode_split
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.dispatch import evaluate
from dcorr_models.evaluation.generation_protocol import GenerationProtocol
from dcorr_models.evaluation.protocol import AttributeProtocol

__all__ = [
    "AttributeProtocol",
    "ClassContentProtocol",
    "DisentanglementProtocol",
    "GenerationProtocol",
    "encode_split",
    "evaluate",
]
