"""Data sets: one file each, all with the contract of `base`.

A new one is a new file with a `DataSource`; the line that imports it here gives it its short name
on the command line. Importing reads no data and no optional package.
"""

from __future__ import annotations

from dcorr_models.data.base import DataSource, LabelledImages, Splits, collate_batch
from dcorr_models.data.cars3d import Cars3D
from dcorr_models.data.cartoon_faces import CartoonFaces
from dcorr_models.data.celeba import CelebA
from dcorr_models.data.celeba_hq import CelebAHQ
from dcorr_models.data.chairs3d import Chairs3D
from dcorr_models.data.cifar10 import CIFAR10
from dcorr_models.data.class_folders import ClassFolders
from dcorr_models.data.digits import BundledDigits
from dcorr_models.data.dsprites import DSprites
from dcorr_models.data.fashion_mnist import FashionMNIST
from dcorr_models.data.grey_sprites import GreySprites
from dcorr_models.data.image_folder import ImageFolder
from dcorr_models.data.mnist import MNIST
from dcorr_models.data.partly_labelled import PartlyLabelled
from dcorr_models.data.small_norb import SmallNORB
from dcorr_models.data.sprite_variants import SpriteVariant
from dcorr_models.data.sprites import Sprites
from dcorr_models.data.stanford_cars import StanfordCars
from dcorr_models.data.three_moons import ThreeMoons

__all__ = [
    "CIFAR10",
    "MNIST",
    "BundledDigits",
    "Cars3D",
    "CartoonFaces",
    "CelebA",
    "CelebAHQ",
    "Chairs3D",
    "ClassFolders",
    "DSprites",
    "DataSource",
    "FashionMNIST",
    "GreySprites",
    "ImageFolder",
    "LabelledImages",
    "PartlyLabelled",
    "SmallNORB",
    "Splits",
    "SpriteVariant",
    "Sprites",
    "StanfordCars",
    "ThreeMoons",
    "collate_batch",
]
