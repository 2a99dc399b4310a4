"""What the numbers of independent latent numbers mean, beside those that all methods share."""

from __future__ import annotations

from dcorr_models.report.markup import share
from dcorr_models.report.measure_words import Measure

__all__ = ["LATENT_MEASURES"]

_NATS = "\u00a0nats"
_SAMPLES = {
    "samples": Measure("Images", ""),
    "dimensions": Measure("Dimensions of the code", ""),
    "seed": Measure("Seed", ""),
}

LATENT_MEASURES = {
    "disentanglement": Measure("Codes and ground-truth factors", ""),
    "disentanglement.images": Measure("Images", "Drawn at random from all splits, and encoded."),
    "disentanglement.active": Measure(
        "Dimensions in use", "Whose means vary over the images by the cut at least."
    ),
    "disentanglement.dimensions": Measure("Dimensions of the code", ""),
    "disentanglement.cut": Measure("Cut", "Least variance, or standard deviation, of one in use."),
    "disentanglement.factor_vae": Measure("FactorVAE metric", ""),
    "disentanglement.factor_vae.score": Measure(
        "FactorVAE metric",
        "How often a majority vote names the factor that stood still, from the dimension that "
        "moved least. Higher is better, 1 is a dimension for every factor."
        "{disentanglement.factor_vae.score_shuffled: Codes shuffled among the images reach #.}",
    ),
    "disentanglement.factor_vae.score_shuffled": Measure(
        "The same, shuffled", "The floor: mean over three shuffles of the codes."
    ),
    "disentanglement.factor_vae.form": Measure("Protocol", "The two published ones differ."),
    "disentanglement.factor_vae.held_out_votes": Measure(
        "Votes held out", "0: the votes that the classifier learned from are scored."
    ),
    "disentanglement.factor_vae.batch": Measure("Images of a vote", ""),
    "disentanglement.mig": Measure("Mutual information gap", ""),
    "disentanglement.mig.mig": Measure(
        "Mutual information gap (MIG)",
        "How much more of a factor the best dimension knows than the second best, as a share of "
        "all there is to know; mean over the factors. Higher is better, from 0 to 1.",
    ),
    "disentanglement.mig.per_factor": Measure("Gap", "Of each factor."),
    "disentanglement.mig.best_dimensions": Measure(
        "Best dimension", "Of each factor, numbered from 0."
    ),
    "disentanglement.mig.entropy": Measure("Entropy of each factor", "", unit=_NATS),
    "disentanglement.mig.bins": Measure("Bins of a dimension", ""),
    "disentanglement.dci": Measure("Disentanglement, completeness, informativeness (DCI)", ""),
    "disentanglement.dci.disentanglement": Measure(
        "Disentanglement",
        "How far a dimension knows one factor alone, by what trees split. Higher is better.",
    ),
    "disentanglement.dci.completeness": Measure(
        "Completeness", "How far a factor is known to one dimension alone. Higher is better."
    ),
    "disentanglement.dci.informativeness": Measure(
        "Informativeness", "How often trees read a factor right from the code.", share
    ),
    "disentanglement.dci.per_dimension": Measure("Disentanglement of each dimension", ""),
    "disentanglement.dci.per_factor": Measure("Completeness", "Of each factor."),
    "disentanglement.dci.accuracy": Measure("Read right", "Each factor.", share),
    "disentanglement.dci.model": Measure("Trees", "Numbers of different ones do not compare."),
    "disentanglement.sap": Measure("Separated attribute predictability", ""),
    "disentanglement.sap.sap": Measure(
        "SAP",
        "How much better the best dimension alone reads a factor than the second best; mean over "
        "the factors. Higher is better.",
    ),
    "disentanglement.sap.per_factor": Measure("Gap", "Of each factor."),
    "disentanglement.sap.best_dimensions": Measure(
        "Best dimension", "Of each factor, numbered from 0."
    ),
    "disentanglement.sap.form": Measure("Protocol", "How a dimension alone is scored."),
    "generation.network": Measure("Network of the Fréchet distance", ""),
    "generation.network.accuracy": Measure(
        "Factors read right", "Of test images, mean over the factors.", share
    ),
    "generation.network.per_factor": Measure("Read right", "Each factor.", share),
    "generation.network.chance": Measure("Chance", "The most frequent value.", share),
    "generation.network.images": Measure("Training images", "All that it has seen."),
    "generation.network.epochs": Measure("Passes over them", ""),
    "generation.frechet.real_samples": Measure("Real images", "Drawn from all splits."),
    "generation.frechet.of_real": Measure("Of other real images", "The floor."),
    "generation.frechet.others": Measure("Other real images", ""),
    "generation.frechet.distance": Measure(
        "Fréchet distance",
        "Of the features of drawn images from those of real ones, each taken for a Gaussian. "
        "Lower is better; it is FID only with the features of the published Inception-v3."
        "{generation.frechet.of_real: Other real images are at #.}",
    ),
    "generation.seed": Measure("Seed", "Of the codes, of the real images and of the network."),
    "alignment": Measure("Do drawn images keep their numbers?", ""),
    "alignment.codes_from": Measure("Codes are drawn from", ""),
    "alignment.seed": Measure("Seed", "Of the codes."),
    "alignment.l_id": Measure("By the method's own encoder", ""),
    "alignment.l_id.log_likelihood": Measure(
        "L_ID",
        "How probable the encoder finds the numbers that an image was drawn with, on average of "
        "the logarithm, their entropy left out. Higher is better; it has no upper end.",
        unit=_NATS,
    ),
    "alignment.l_id.per_dimension": Measure("Of each dimension", "", unit=_NATS),
    "alignment.gilbo": Measure("By an encoder that was trained anew", ""),
    "alignment.gilbo.log_likelihood": Measure(
        "GILBO",
        "The same for a new encoder, trained on drawn images and their numbers alone. Higher is "
        "better.",
        unit=_NATS,
    ),
    "alignment.gilbo.per_dimension": Measure("Of each dimension", "", unit=_NATS),
    "alignment.gilbo.steps": Measure("Updates of it", "More make the bound tighter."),
    "alignment.gilbo.batch": Measure("Images of an update", ""),
    **{
        f"{group}.{key}": measure
        for group in (
            *(f"disentanglement.{name}" for name in ("factor_vae", "mig", "dci", "sap")),
            *("alignment.l_id", "alignment.gilbo"),
        )
        for key, measure in _SAMPLES.items()
    },
}
