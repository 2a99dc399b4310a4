"""What a method is: networks, the stages that train them, and codes to edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

from torch import Tensor, nn

from dcorr_models.data.base import LabelledImages
from dcorr_models.settings import Configurable
from dcorr_models.training.stage import Stage

__all__ = ["Codes", "Method"]


class Codes(NamedTuple):
    """The two codes of an image."""

    label: Tensor  # (N, K): the supervised code: CDNet's soft target, LORD's class vector
    residual: Tensor  # (N, Z): everything else


class Method(Configurable, nn.Module, ABC):
    """A trainable model with two codes. The constructor's arguments are its configuration.

    Subclasses hold their networks as attributes, so that `state_dict()` is the trained model, and
    set `image_shape`, `num_labels` and `multilabel`.
    """

    image_shape: tuple[int, int, int]
    num_labels: int
    multilabel: bool
    value_range: tuple[float, float] | None = None
    """Range of the decoder's images; None where it is not known."""
    label_names: tuple[str, ...] | None = None
    """What the data call the labels, once a method has met its data (`train`, `load_run`)."""
    has_label_code: bool = True
    """False: `Codes.label` has no columns, all is in the residual code, nothing can be edited."""
    has_encoder: bool = True
    """False: it draws images, and gives an image no codes: `encode` raises `UserError`."""
    has_class_vectors: bool = False
    """True: `Codes.label` describes a class by a learned vector; an edit takes another image's."""
    infers_attributes: bool = True
    """False: the label code of every image is 0, and an edit of an attribute adds to the image."""
    intensities: tuple[float, float] = (-1.5, 3.0)
    """Weakest and strongest value that an edit of an attribute writes into the label code."""
    takes_unlabelled: bool = False
    """True: training images without a label (class -1) are learned from, in a stage with an
    `unlabelled_batch_size`. Set on the object where its settings decide."""
    reads_labels: bool = True
    """False: it learns from images alone. Whatever labels the data have are never looked at, and
    its stages' `reads_labels` is False too."""
    needs_every_class: bool = False
    """True: a class without a labelled training image cannot be learned."""

    start_from: str | None = None
    """Folder of a finished run whose weights this method begins with. `train` keeps a copy of them
    in its own folder, and sets this to the copy while `meet` is called for a resumed run."""

    def meet(self, train: LabelledImages) -> None:
        """Called by `train` before `stages`, for what depends on the training images' number."""

    @abstractmethod
    def stages(self) -> list[Stage]:
        """Fresh stages with fresh optimizers, in the order of training."""

    @abstractmethod
    def encode(self, images: Tensor) -> Codes:
        """(N, C, H, W) images to codes; call `eval()` first for codes without dropout."""

    @abstractmethod
    def decode(self, codes: Codes) -> Tensor:
        """Codes to (N, C, H, W) images."""

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """What must work before a training begins: (name, call, shape of its result)."""
        n, shape = len(images), tuple(images.shape)
        columns = self.num_labels if self.has_label_code else 0
        yield "the label code", lambda: self.encode(images).label, (n, columns)
        codes = self.encode(images)
        yield "the decoder", lambda: self.decode(codes), shape

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction: `decode(encode(images))`."""
        return self.decode(self.encode(images))
