"""What the numbers of class and content codes mean, beside those that all methods share."""

from __future__ import annotations

from dcorr_models.report.markup import share
from dcorr_models.report.measure_words import Measure

__all__ = ["CLASS_CONTENT_MEASURES"]

_COMMON = {
    "train_accuracy": Measure("The same on the codes it learnt from", "", share),
    "chance": Measure("Chance", "The share of the most frequent label in training.", share),
    "classes": Measure("Labels", ""),
    "train_samples": Measure("Codes to learn from", ""),
    "test_samples": Measure("Codes to be scored on", ""),
    "dimensions": Measure("Dimensions of the code", ""),
    "steps": Measure("Updates", "The published protocol has 100,000."),
    "batch_size": Measure("Codes an update", ""),
    "standardised": Measure("Standardised codes", ""),
    "seed": Measure("Seed", "Of the first weights and the order of the codes."),
    "left_out": Measure("Left out", "Held-out images whose label none of the training images has."),
}
_ERRORS = {
    "mean_absolute": Measure(
        "Error", "Mean absolute error of linear regression, over all targets and held-out images."
    ),
    "mean_absolute_unread": Measure(
        "Error of the mean", "What a regression has that reads nothing from the code."
    ),
    "per_target": Measure("Error, by target", ""),
    "per_target_unread": Measure("Error of the mean, by target", ""),
    "rmse": Measure("Root of the mean squared error", ""),
    "rmse_unread": Measure("The same of the mean", ""),
    "unit": Measure("Unit of the errors", ""),
    "targets": Measure("Targets", ""),
    "train_samples": Measure("Codes to learn from", ""),
    "test_samples": Measure("Codes to be scored on", ""),
    "dimensions": Measure("Dimensions of the code", ""),
}

CLASS_CONTENT_MEASURES = {
    "transfer": Measure("Content transfer", ""),
    "transfer.distance": Measure(
        "Distance", "What compares images; numbers of different distances do not compare."
    ),
    "transfer.transfer": Measure(
        "Content transfer",
        "Distance of an image made of one test image's class and another's content from the true "
        "image of both. Lower is better.{transfer.reconstruction.mean: A reconstruction of the "
        "true image is at #.}",
    ),
    "transfer.reconstruction": Measure(
        "Reconstruction", "The same, with class and content of the true image itself."
    ),
    "transfer.class_image": Measure(
        "The image that gives the class", "As it is, in place of the transfer: no content moved."
    ),
    "transfer.content_image": Measure(
        "The image that gives the content", "As it is, in place of the transfer: no class kept."
    ),
    "transfer.pairs": Measure("Transfers", "Drawn at random from the test images."),
    "transfer.seed": Measure("Seed", "Of the draw."),
    "transfer.matched_by": Measure(
        "True image by", "Its content label, or the nearest targets where data have no such label."
    ),
    "probes": Measure("Probes", ""),
    "probes.held_out": Measure(
        "Scored on",
        "The split whose images the probes are scored on: test, valid, or train for a share of "
        "the training images that the probes do not learn from.",
    ),
    "probes.content_codes": Measure(
        "Content codes", "As the encoder gives them, or drawn from their posterior."
    ),
    "probes.class_from_content": Measure("Class read from content codes (y ← C)", ""),
    "probes.content_from_class": Measure("Content read from class codes (y → C)", ""),
    "regression": Measure("Targets read from codes", ""),
    "regression.target_names": Measure("Targets", ""),
    "regression.class_code": Measure("Targets read from class codes (R(y) → C)", ""),
    "regression.content_code": Measure("Targets read from content codes", ""),
    **{
        f"probes.{probe}.{key}": measure
        for probe in ("class_from_content", "content_from_class")
        for key, measure in _COMMON.items()
    },
    "probes.class_from_content.accuracy": Measure(
        "Class read from content codes",
        "How often a small network, trained on content codes, names the class of an image it has "
        "not seen. Lower is better.{probes.class_from_content.chance: Chance is %.}",
        share,
    ),
    "probes.content_from_class.accuracy": Measure(
        "Content read from class codes",
        "How often a small network, trained on class codes, names the content of an image it has "
        "not seen. Lower is better.{probes.content_from_class.chance: Chance is %.}",
        share,
    ),
    **{
        f"regression.{code}.{key}": measure
        for code in ("class_code", "content_code")
        for key, measure in _ERRORS.items()
    },
    "regression.class_code.mean_absolute": Measure(
        "Error of targets read from class codes",
        "Mean absolute error of linear regression, over all targets and held-out images. Higher is "
        "better.{regression.class_code.mean_absolute_unread: One that reads nothing has #.}",
    ),
    "leakage.dcor": Measure(
        "Distance correlation of class and content codes",
        "From 0 to 1, lower is better. It is above 0 even for independent codes when images are "
        "few, so compare it on the same images only.{leakage.dcor_shuffled: With the codes "
        "shuffled among the images it is #.}",
    ),
    "leakage.dcor_samples": Measure("Images of the distance correlation", ""),
    "collapse": Measure("Posterior of the content codes", ""),
    "collapse.at_prior": Measure(
        "Dimensions at the prior", "They tell nothing of an image: partial posterior collapse."
    ),
    "collapse.dimensions": Measure("Dimensions", ""),
    "collapse.tolerance": Measure(
        "Tolerance", "Of the mean absolute mean around 0 and the mean deviation around 1."
    ),
    "collapse.samples": Measure("Images", ""),
}
