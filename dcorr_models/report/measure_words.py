"""What each number of `evaluation.json` means; a number without a word here is shown as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dcorr_models.report.markup import number, share

__all__ = ["ATTRIBUTE_MEASURES", "MEASURES", "Measure"]


class Measure(NamedTuple):
    """How a number is called, written and read."""

    name: str
    # What it is and which way is better; `{path: words %}` fills in a share from the evaluation and
    # `{path: words #}` a plain number, or nothing where it was not measured.
    meaning: str
    write: Callable[[Any], str] = number
    unit: str = ""


# By the path in evaluation.json. A metric's own file has its exact protocol.
MEASURES = {
    "reconstruction.rmse": Measure(
        "Reconstruction error (RMSE)",
        "Root of the mean squared pixel error of each test image, black 0 and white 1. "
        "Lower is better, 0 is exact.",
    ),
    "reconstruction.psnr": Measure(
        "PSNR",
        "Peak signal-to-noise ratio of each test image in decibels. Higher is better.",
        unit="\u00a0dB",
    ),
    "reconstruction.ms_ssim": Measure(
        "Structural similarity (MS-SSIM)",
        "How well the structures of each test image survive, at several scales. "
        "Higher is better, 1 is identical.",
    ),
    "reconstruction.ms_ssim_scales": Measure(
        "Scales of MS-SSIM", "As many of the published five as fit the image."
    ),
    "reconstruction.ms_ssim_weights": Measure("Weights of the scales", "The finest scale first."),
    "reconstruction.value_range": Measure("Range of the pixels", "Mapped to black 0 and white 1."),
    "reconstruction.images": Measure("Images", "Test images that were reconstructed."),
    "leakage.linear_probe": Measure(
        "Class read from z, linear",
        "How often logistic regression, trained on the codes of training images, names the class "
        "of a test image from its residual code z. Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.mlp_probe": Measure(
        "Class read from z, small network",
        "The same with a small neural network, which also finds what is not linear. "
        "Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.chance": Measure(
        "Chance", "What a probe reaches that reads nothing: the most frequent class.", share
    ),
    "leakage.dcor": Measure(
        "Distance correlation of label code and z",
        "From 0 to 1, lower is better. It is above 0 even for independent codes when images are "
        "few, so compare it on the same images only.{leakage.dcor_shuffled: With the codes "
        "shuffled among the images it is #.}",
    ),
    "leakage.dcor_shuffled": Measure(
        "The same, shuffled", "The floor: what independent codes give on as many images."
    ),
    "leakage.train_samples": Measure("Training images", "What the probes learn from."),
    "leakage.test_samples": Measure("Test images", "What the probes are scored on."),
    "leakage.dimensions": Measure("Dimensions of z", ""),
    "leakage.classes": Measure("Classes", ""),
    "leakage.mlp_width": Measure("Width of the small network", "Units of its hidden layer."),
    "leakage.seed": Measure("Seed", "Of the small network's first weights and order of images."),
    "editing.recognised": Measure(
        "Edits recognised",
        "How often a classifier, trained on real training images only, takes a test image edited "
        "to another class for that class. Higher is better; edits that change nothing score "
        "about 0\u00a0%.{editing.classifier_accuracy: On real test images the classifier is right "
        "in %.}",
        share,
    ),
    "editing.per_class": Measure("Edits recognised", "", share),
    "editing.classifier_accuracy": Measure(
        "Accuracy of the judging classifier",
        "How often it is right on the real test images.",
        share,
    ),
    "editing.num_edits": Measure("Number of edits", "Each test image, to each other class."),
    "soft_target.accuracy": Measure(
        "Accuracy of the label code",
        "How often the largest entry of the label code is the true class of a test image.",
        share,
    ),
    "soft_target.per_attribute": Measure("Accuracy of the label code", "", share),
    "svm": Measure("SVMs on edited images", ""),
    "svm.mean_error": Measure(
        "Edits that SVMs miss",
        "Test images without an attribute, edited to the highest intensity, that linear SVMs "
        "trained on real images still take for images without it: mean over the attributes. "
        "Lower is better.{svm.mean_accuracy: On real test images the SVMs are right in %.}",
        share,
    ),
    "svm.mean_errors": Measure(
        "The same at each intensity", "Weak to strong; edits that work make it fall."
    ),
    "svm.intensities": Measure("Intensities", "Values written into the label code."),
    "svm.mean_accuracy": Measure(
        "Accuracy of the SVMs", "How often they are right on real test images.", share
    ),
    "svm.repeats": Measure("SVMs an attribute", "Each learns from other training images."),
    "svm.penalty": Measure("C of the SVMs", "How much a mistake in training costs."),
    "svm.standardised": Measure("Standardised pixels", ""),
    "svm.balanced": Measure("Balanced training", "As many images with the attribute as without."),
    "svm.max_per_side": Measure(
        "Largest training set", "Images with the attribute, and without, that an SVM learns from."
    ),
    "svm.seed": Measure("Seed", "Of the choice of training images."),
    "edits": Measure("Effects of edits", ""),
    "edits.mean_diagonal": Measure(
        "Edits that change their attribute",
        "An attribute of a test image is edited to its opposite; the share in which a classifier, "
        "trained on real images only, changes its mind about it. Higher is better.",
        share,
    ),
    "edits.mean_off_diagonal": Measure(
        "Edits that change another attribute",
        "The share in which the same classifier changes its mind about some other attribute: mean "
        "over all pairs. Lower is better.",
        share,
    ),
    "edits.mean_reached": Measure(
        "Edits that show what was asked for",
        "The share in which the classifier sees the attribute as it was asked for, whatever it saw "
        "before. Higher is better.",
        share,
    ),
    "edits.reached": Measure("Edits that show what was asked for", "", share),
    "edits.reconstruction_agreement": Measure("Right on unedited reconstructions", "", share),
    "edits.classifier_accuracy": Measure("Right on real test images", "", share),
    "edits.classifier_balanced_accuracy": Measure(
        "Right on real test images, attribute present and absent weighing the same", "", share
    ),
    "edits.images": Measure("Images", "Test images, each edited once for each attribute."),
    "edits.classifier_images": Measure("Training images", "What the classifier learns from."),
    "edits.values": Measure("Values", "Written to take an attribute away, and to give it."),
    "edits.seed": Measure("Seed", "Of the classifier."),
    "num_images": Measure("Images", "Held-out images that everything is measured on."),
    "seconds": Measure("Seconds", "What the evaluation took."),
}

# Where the labels are attributes, some numbers are measured in another way.
ATTRIBUTE_MEASURES = {
    "leakage.linear_probe": Measure(
        "Attributes read from z, linear",
        "How often logistic regression, trained on the codes of training images, is right about "
        "an attribute of a test image from its residual code z; images with and without it weigh "
        "the same, mean over the attributes. Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.mlp_probe": Measure(
        "Attributes read from z, small network",
        "The same with a small neural network, which also finds what is not linear. "
        "Lower is better.{leakage.chance: Chance is %.}",
        share,
    ),
    "leakage.linear_per_attribute": Measure("Read from z, linear", "", share),
    "leakage.mlp_per_attribute": Measure("Read from z, small network", "", share),
    "leakage.chance": Measure("Chance", "What a probe reaches that reads nothing.", share),
    "leakage.dcor_samples": Measure("Images of the distance correlation", ""),
    "leakage.seed": Measure(
        "Seed", "Of the small network's first weights and order of images, and of the shuffles."
    ),
    "soft_target.accuracy": Measure(
        "Accuracy of the label code",
        "How often its entry of an attribute is above one half exactly if a test image has the "
        "attribute, mean over the attributes.",
        share,
    ),
}
