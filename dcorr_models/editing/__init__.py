"""Edits of an image by its label code: another class, or attributes at any intensity.

An edit writes into `codes.label`, leaves `codes.residual` as it is, and decodes.
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
from dcorr_models.editing.passes import inference, reconstruct

__all__ = [
    "default_intensities",
    "edit_attributes",
    "edit_class",
    "edit_files",
    "inference",
    "reconstruct",
    "set_attributes",
    "single_intensity",
    "style_transfer",
    "swap_class",
    "sweep",
]
