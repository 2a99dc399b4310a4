"""Metrics: one file each, tensors in, numbers that serialise to JSON out; none knows a method.

`image_quality` reconstructions, `leakage` of the class into a code, `recognition` of edited images.
For attributes: `leakage_attributes`, `svm_editing` the error of SVMs on edits by intensity, and
`attribute_recognition` which attributes an edit changes.
For class and content codes: `content_transfer` against the true image, by a `perceptual_distance`,
`code_classifier` and `target_regression` what a code tells, and `posterior_collapse`.
For drawn samples: `inception_score`, `intra_class_diversity`, `frechet_distance`, `class_purity` of
class codes, and `axis_coverage` of points.
For codes and ground-truth factors: `factor_vae_metric`, `mutual_information_gap`, `dci`, `sap`, of
the `active_dimensions`; `latent_likelihood`, whether drawn images keep their codes (L_ID, GILBO);
`factor_network`, features of images for which factors are known.
Importing a file is cheap: scikit-learn and torchmetrics come in when a metric that needs them runs.
"""
