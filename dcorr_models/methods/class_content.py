"""What methods with a class code and a content code share: LORD, its variants and its rivals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from dcorr_models.methods.base import Method

__all__ = ["ClassContent"]


class ClassContent(Method):
    """A method that describes an image by the code of its class and a code of its content.

    `Codes.label` is the class code (N, class_dim): what all images of a class share.
    `Codes.residual` is the content code (N, content_dim): what an image keeps when it is drawn in
    another class. Subclasses set `class_dim` and `content_dim` beside what every `Method` sets;
    `num_labels` counts all classes of the data, those of the test split too, which training may
    never see.
    """

    class_dim: int
    content_dim: int
    multilabel = False
    has_class_vectors = True
    probes_read_samples: bool = False
    """True: probes of the content code read a draw from `posterior`, as published for the VAEs."""

    def class_vectors(self) -> Tensor | None:
        """(num_labels, class_dim): the learned code of each class, NaN for classes never trained.

        None where a method learns no code of a class, and reads it off images instead.
        """
        return None

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor] | None:
        """Mean and log variance (N, content_dim) of the content code's Gaussian posterior.

        None where the method has no such posterior. Metrics read it: how many of its dimensions
        have collapsed to the prior, and, with `probes_read_samples`, what a drawn code tells.
        """
        return None

    def rehearsal(
        self, images: Tensor
    ) -> Iterator[tuple[str, Callable[[], object], tuple[int, ...]]]:
        """Both codes and the decoder."""
        n, shape = len(images), tuple(images.shape)
        yield "the class code", lambda: self.encode(images).label, (n, self.class_dim)
        yield "the content code", lambda: self.encode(images).residual, (n, self.content_dim)
        codes = self.encode(images)
        yield "the decoder", lambda: self.decode(codes), shape
