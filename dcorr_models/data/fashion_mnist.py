"""Fashion-MNIST from its IDX files: 70,000 pictures of Zalando's articles (MIT licence)."""

from __future__ import annotations

from typing import ClassVar

from dcorr_models.data.mnist import MNIST

__all__ = ["FashionMNIST"]


class FashionMNIST(MNIST):
    """The 70,000 articles of Fashion-MNIST, 28x28 grey images in [0, 1], ten classes.

    Files, splits and arguments are those of `MNIST`, by design of its authors.

    Args:
        folder: Folder with the four IDX files; by default `data/fashion-mnist`, or where Debian's
            package `dataset-fashion-mnist` puts them.
        split: "paper" shuffles all 70,000 images and takes 50,000 for training, 10,000 for
            validation and 10,000 for testing. "release" trains on the first 50,000 of the
            training file, validates on its last 10,000 and tests on the official test file.
        seed: Seed of the shuffle of the "paper" split, from 0 to 2**32 - 1.
        verify: Refuse files that are not the published ones. Set it to false for 28x28 data of
            your own in this format; a set of another size is split in the same proportions.

    Reference:
        Xiao, Rasul and Vollgraf, Fashion-MNIST: a novel image dataset for benchmarking machine
        learning algorithms, 2017.
    """

    name: ClassVar[str] = "Fashion-MNIST"
    label_names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    default_folders: ClassVar[tuple[str, ...]] = (
        "data/fashion-mnist",
        "/usr/share/datasets/fashion-mnist",
    )
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    )
    # SHA-256 of the unzipped files
    files: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
        ),
        "train-labels-idx1-ubyte": (
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
        ),
        "t10k-images-idx3-ubyte": (
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
        ),
        "t10k-labels-idx1-ubyte": (
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
        ),
    }
