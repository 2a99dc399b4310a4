"""Edits of an image by its label code: another class, or attributes at any intensity.

An edit writes into `codes.label`, leaves `codes.residual` as it is, and decodes. Where the label
code describes a class by a vector, the one of another image, or of a class, takes its place.
Of independent latent numbers one moves, and the others stay: a traversal.
Inpainting leaves both codes as they are: those of what is left of an image fill its hole.
"""

from __future__ import annotations

from dcorr_models.editing.attributes import (
    default_intensities,
    edit_attributes,
    set_attributes,
    single_intensity,
    sweep,
)
from dcorr_models.editing.classes import edit_class, style_transfer, swap_class
from dcorr_models.editing.files import edit_files
from dcorr_models.editing.inpaint_files import inpaint_files
from dcorr_models.editing.inpainting import (
    bottom_half,
    box,
    corrupt,
    inpaint,
    random_square,
    right_half,
)
from dcorr_models.editing.passes import inference, reconstruct
from dcorr_models.editing.swap import class_codes, swap, transfer, translate
from dcorr_models.editing.traversal import traverse, traverse_file

__all__ = [
    "bottom_half",
    "box",
    "class_codes",
    "corrupt",
    "default_intensities",
    "edit_attributes",
    "edit_class",
    "edit_files",
    "inference",
    "inpaint",
    "inpaint_files",
    "random_square",
    "reconstruct",
    "right_half",
    "set_attributes",
    "single_intensity",
    "style_transfer",
    "swap",
    "swap_class",
    "sweep",
    "transfer",
    "translate",
    "traverse",
    "traverse_file",
]
