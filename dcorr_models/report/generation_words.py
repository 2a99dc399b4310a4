"""What the numbers of drawn images mean, beside those that all methods share."""

from __future__ import annotations

from dcorr_models.report.markup import share
from dcorr_models.report.measure_words import Measure

__all__ = ["GENERATION_MEASURES"]

_REAL = "Of real training images"
_RATES = {
    "rate": Measure("Taken for the class of the image", "", share),
    "per_class": Measure("Taken for the class of the image", "", share),
    "classes": Measure("Classes", "By number."),
    "images": Measure("Images", ""),
}

GENERATION_MEASURES = {
    "generation": Measure("Drawn images", ""),
    "generation.samples_from": Measure("Drawn from", "What the codes of a class are drawn from."),
    "generation.samples_per_class": Measure("Drawn images of each class", ""),
    "generation.classes": Measure("Classes", "That are drawn."),
    "generation.seed": Measure("Seed", "Of the codes and of the judging classifier."),
    "generation.classifier": Measure("Judging classifier", ""),
    "generation.classifier.accuracy": Measure(
        "Accuracy", "How often it is right on real test images.", share
    ),
    "generation.classifier.images": Measure("Training images", "Real ones, all that it has seen."),
    "generation.classifier.epochs": Measure("Passes over them", ""),
    "generation.inception": Measure("Inception score", ""),
    "generation.inception.score": Measure(
        "Inception score",
        "How sure a classifier of real images is of each drawn one, and how evenly its answers "
        "spread over the classes, from 1 to their number. Higher is better."
        "{generation.inception.of_real: Real training images, as many of each class, have #.}",
    ),
    "generation.inception.std": Measure("Its spread over the splits", ""),
    "generation.inception.splits": Measure(
        "Splits", "Each with a mean answer of its own; scores of other numbers do not compare."
    ),
    "generation.inception.samples": Measure("Drawn images", ""),
    "generation.inception.classes": Measure("Classes of the classifier", ""),
    "generation.inception.of_real": Measure(_REAL, "As many of each class, or all."),
    "generation.inception.real_samples": Measure("Real images", ""),
    "generation.recognised": Measure("Drawn images recognised", ""),
    "generation.recognised.rate": Measure(
        "Drawn images recognised",
        "How often the classifier takes a drawn image for the class that was asked for. Higher is "
        "better.{generation.classifier.accuracy: On real test images it is right in %.}",
        share,
    ),
    "generation.recognised.per_class": Measure("Drawn images recognised", "", share),
    "generation.recognised.classes": Measure("Classes", "By number."),
    "generation.recognised.images": Measure("Drawn images", ""),
    "generation.from_images": Measure("Classes that were not told in training", ""),
    "generation.from_images.unseen": Measure(
        "Class code of an image of a class without labels", ""
    ),
    "generation.from_images.known": Measure("The same for classes with labels", ""),
    **{
        f"generation.from_images.{which}.{key}": measure
        for which in ("unseen", "known")
        for key, measure in _RATES.items()
    },
    "generation.from_images.unseen.rate": Measure(
        "Taken for the class of the image",
        "Images made of the class code of a test image, whose class had no label in training, and "
        "of a drawn content code. Higher is better."
        "{generation.from_images.known.rate: Of classes with labels it is %.}",
        share,
    ),
    "generation.diversity": Measure("Diversity within a class", ""),
    "generation.diversity.mean": Measure(
        "Diversity within a class (d_intra)",
        "One minus the mean MS-SSIM of pairs of drawn images of a class. Higher is more diverse, "
        "0 is one image."
        "{generation.diversity.of_real: Real training images have #; more than that is noise.}",
    ),
    "generation.diversity.mean_with_self_pairs": Measure(
        "As published", "With pairs of an image with itself, so that it depends on their number."
    ),
    "generation.diversity.per_class": Measure("Diversity", ""),
    "generation.diversity.classes": Measure("Classes", "By number."),
    "generation.diversity.images_a_class": Measure("Images of each class", ""),
    "generation.diversity.pairs": Measure("Pairs", ""),
    "generation.diversity.ms_ssim_scales": Measure(
        "Scales of MS-SSIM", "As many of the published five as fit the image."
    ),
    "generation.diversity.ms_ssim_weights": Measure("Their weights", "The finest scale first."),
    "generation.diversity.of_real": Measure(_REAL, ""),
    "generation.diversity.real_images_a_class": Measure("Real images of each class", ""),
    "generation.frechet": Measure("Fréchet distance", ""),
    "generation.frechet.distance": Measure(
        "Fréchet distance",
        "Of the features of drawn images from those of test images, each taken for a Gaussian. "
        "Lower is better; it is FID only with the features of Inception-v3."
        "{generation.frechet.of_real: Training images are at #.}",
    ),
    "generation.frechet.features": Measure(
        "Features", "Numbers of different features do not compare."
    ),
    "generation.frechet.dimensions": Measure("Features an image", ""),
    "generation.frechet.real_samples": Measure("Test images", ""),
    "generation.frechet.samples": Measure("Drawn images", ""),
    "generation.frechet.enough_samples": Measure(
        "More images than features", "Without, the distance is mostly error of its covariances."
    ),
    "generation.frechet.of_real": Measure(
        "Of training images", "The floor, as many of each class."
    ),
    "generation.coverage": Measure("Coverage of the label-irrelevant axis", ""),
    "generation.coverage.coverage": Measure(
        "Coverage of the label-irrelevant axis",
        "The share of bins, of equally many real points of a class each, that drawn points reach: "
        "along the direction in which the class spreads most. Higher is better."
        "{generation.coverage.of_real: Training points reach %.}",
        share,
    ),
    "generation.coverage.per_class": Measure("Coverage", "", share),
    "generation.coverage.classes": Measure("Classes", "By number."),
    "generation.coverage.wasserstein": Measure(
        "Wasserstein distance along the axis",
        "Of drawn and real points. Lower is better."
        "{generation.coverage.wasserstein_of_real: Training points are at #.}",
    ),
    "generation.coverage.wasserstein_across": Measure(
        "Wasserstein distance across the axis",
        "Points beside their class are far. Lower is better.",
    ),
    "generation.coverage.bins": Measure("Bins", ""),
    "generation.coverage.least": Measure(
        "Least share", "Of what is due to a bin, from which on it counts as reached."
    ),
    "generation.coverage.real_points": Measure("Test points of each class", "At least."),
    "generation.coverage.points": Measure("Drawn points of each class", ""),
    "generation.coverage.of_real": Measure("Coverage by training points", "", share),
    "generation.coverage.wasserstein_of_real": Measure("Distance of training points", ""),
    "purity": Measure("Purity of class codes", ""),
    "purity.clusters": Measure(
        "Purity of the clusters of class codes",
        "The share of test images whose class is the most frequent one of their k-means cluster, "
        "as many clusters as classes. Higher is better.{purity.clusters_shuffled: Chance is %.}",
        share,
    ),
    "purity.clusters_shuffled": Measure("Chance", "With the classes shuffled.", share),
    "purity.neighbours": Measure(
        "Nearest neighbours of the same class",
        "The share of a class code's nearest other ones that are of its class. Higher is better."
        "{purity.neighbours_shuffled: Chance is %.}",
        share,
    ),
    "purity.neighbours_shuffled": Measure("Chance", "With the classes shuffled.", share),
    "purity.k": Measure("Nearest neighbours", ""),
    "purity.classes": Measure("Classes", ""),
    "purity.samples": Measure("Test images", ""),
    "purity.dimensions": Measure("Dimensions of the class code", ""),
    "purity.seed": Measure("Seed", "Of k-means and the shuffles."),
}
