"""Draws one cartoon face: a choice for every part of it, as 64x64 pixels.

The parts come from the package python-avatars (avataaars by Pablo Stanley) as SVG, and resvg
turns them into pixels. Three things that the package cannot combine are added to its drawing: a
hat over hair, a beard without a mustache, and cheeks and earrings, which it does not have.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from dcorr_models.errors import DataError

__all__ = ["HAIR_COLOURS", "SKIN_COLOURS", "check_packages", "draw_face"]

HAIR_COLOURS = ("black", "dark_brown", "brown", "auburn", "red", "golden", "platinum")
SKIN_COLOURS = ("black", "dark_brown", "brown", "light", "pale")

_HAIR = dict(
    zip(
        HAIR_COLOURS,
        ("#2C1B18", "#4A312C", "#724133", "#A55728", "#C93305", "#E3BB62", "#F4E6C6"),
        strict=True,
    )
)
_SKIN = dict(
    zip(SKIN_COLOURS, ("#614335", "#8D4F28", "#B97848", "#EDB98A", "#FFDBB4"), strict=True)
)
# facial hair in one colour: blond hair would not show on pale skin
_FACIAL_HAIR = "#2C1B18"
_DARK_GROUNDS = ("#1F2A44", "#3B1F3F", "#12392F", "#4A1C1C")
_LIGHT_GROUNDS = ("#A9D8FF", "#FFD9A8", "#BDEFC2", "#F2C4E0")
_FABRICS = ("#5199E4", "#25557C", "#929598", "#54B87A", "#E8A13A", "#FF488E", "#D63A3A", "#8A5FC7")
# (long, wavy) to a style that also shows under the hat, each with a place for glasses and beards
_HAIR_STYLES = {
    (0, 0): "MOWGLI",
    (0, 1): "SHORT_DREADS_2",
    (1, 0): "STRAIGHT_STRAND",
    (1, 1): "CURVY",
}
# (smiling, open)
_MOUTHS = {
    (0, 0): ("SAD", "SAD"),
    (0, 1): ("DISBELIEF", "SCREAM_OPEN"),
    (1, 0): ("TWINKLE", "TWINKLE"),
    (1, 1): ("SMILE", "BIG_SMILE"),
}
# the part of the drawing that an image shows, in its own units of 264 x 280
_VIEW = "24 20 216 216"
_SVG = "{http://www.w3.org/2000/svg}"
_PACKAGES = {"python_avatars": "python-avatars", "resvg_py": "resvg-py", "PIL": "pillow"}


def check_packages() -> None:
    """Refuse to go on where the packages that draw are missing.

    Raises:
        DataError: If one of them is not installed; the message names the extra.
    """
    missing = [name for module, name in _PACKAGES.items() if not importlib.util.find_spec(module)]
    if missing:
        raise DataError(
            f"cartoon faces are drawn by {' and '.join(missing)}: pip install 'dcorr[avatars]'"
        )


def draw_face(choice: Mapping[str, int], size: int = 64) -> npt.NDArray[np.uint8]:
    """Draw a face.

    Args:
        choice: 0 or 1 for each of `cartoon_faces.ATTRIBUTES`, and the number of one of its values
            for each of `cartoon_faces.VARIATIONS`.
        size: Side of the image in pixels.

    Returns:
        uint8 array of shape (3, size, size).
    """
    import resvg_py
    from PIL import Image

    svg = _svg(choice)
    grounds = _DARK_GROUNDS if choice["Dark_Background"] else _LIGHT_GROUNDS
    png = resvg_py.svg_to_bytes(
        svg_string=svg,
        width=size,
        height=size,
        background=grounds[choice["background"]],
        skip_system_fonts=True,
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return np.ascontiguousarray(np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def _svg(choice: Mapping[str, int]) -> str:
    root = ElementTree.fromstring(_avatar(choice))
    root.set("viewBox", _VIEW)
    root.set("width", "64")
    root.set("height", "64")
    face, top = _by_id(root, "Face"), _by_id(root, "Top")
    # at 64 pixels the package's own mouths are five pixels wide: larger, and a little lower
    _by_id(face, "Mouth").set("transform", "translate(56 82) scale(1.6) translate(-54 -24)")
    if choice["Rosy_Cheeks"]:
        for x in (92, 172):
            _add(face, "ellipse", cx=x - 76, cy=58, rx=13, ry=9, fill="#FF3B5C", opacity=0.75)
    if choice["Beard"]:
        _add_beard(_by_id(root, "Facial-Hair"))
    if choice["Wearing_Earrings"]:
        for x in (68, 196):
            _add(top, "circle", cx=x, cy=132, r=8, fill="#FFC400", stroke="#7A5200")
    if choice["Wearing_Hat"]:
        hat = ElementTree.SubElement(top, f"{_SVG}g", transform="translate(0 -12)")
        hat.extend(ElementTree.fromstring(_hat(_FABRICS[choice["hat_colour"]])))
    return ElementTree.tostring(root, encoding="unicode")


def _avatar(choice: Mapping[str, int]) -> str:
    """The package's drawing. Every argument is given: it draws lots for those left out."""
    import python_avatars as parts

    smile, opened = choice["Smiling"], choice["Mouth_Slightly_Open"]
    glasses = ("PRESCRIPTION_1", "PRESCRIPTION_2")[choice["glasses"]]
    eyes = (("SURPRISED", "SQUINT"), ("CLOSED", "HAPPY"))[choice["Eyes_Closed"]]
    shirt = ("SHIRT_CREW_NECK", "HOODIE")[choice["clothes"]]
    avatar = parts.Avatar(
        style=parts.AvatarStyle.TRANSPARENT,
        background_color=parts.BackgroundColor.DEFAULT,
        top=parts.HairType[_HAIR_STYLES[choice["Long_Hair"], choice["Wavy_Hair"]]],
        hat_color=parts.ClothingColor.RED,
        eyebrows=parts.EyebrowType[
            "RAISED_EXCITED_NATURAL" if choice["Arched_Eyebrows"] else "FLAT_NATURAL"
        ],
        eyes=parts.EyeType[eyes[choice["eyes"]]],
        nose=parts.NoseType.DEFAULT,
        mouth=parts.MouthType[_MOUTHS[smile, opened][choice["mouth"]]],
        facial_hair=parts.FacialHairType["MOUSTACHE_MAGNUM" if choice["Mustache"] else "NONE"],
        skin_color=_SKIN[SKIN_COLOURS[choice["skin_colour"]]],
        hair_color=_HAIR[HAIR_COLOURS[choice["hair_colour"]]],
        facial_hair_color=_FACIAL_HAIR,
        accessory=parts.AccessoryType[glasses if choice["Eyeglasses"] else "NONE"],
        clothing=parts.ClothingType["SHIRT_WICK" if choice["Wearing_Necktie"] else shirt],
        clothing_color=_FABRICS[choice["clothes_colour"]],
        shirt_graphic=parts.ClothingGraphic.NONE,
        shirt_text="",
        title=None,
    )
    return str(avatar.render())


@cache
def _hat(colour: str) -> str:
    import python_avatars as parts
    from python_avatars.core import _get_path
    from python_avatars.svg_parser import SVGParser

    drawing = SVGParser(_get_path(parts.HatType, parts.HatType.WINTER_HAT_3))
    drawing.get_element_by_id("Fabric-Color").set_attr("fill", colour)
    return str(drawing)


@cache
def _beard() -> str:
    import python_avatars as parts
    from python_avatars.core import _get_path
    from python_avatars.svg_parser import SVGParser

    drawing = SVGParser(_get_path(parts.FacialHairType, parts.FacialHairType.BEARD_MEDIUM))
    drawing.get_element_by_id("Facial-Hair-Color").set_attr("fill", _FACIAL_HAIR)
    return str(drawing)


def _add_beard(facial_hair: ElementTree.Element) -> None:
    """The package's beard comes with a mustache: a clip leaves its sides and what is below."""
    clip = ElementTree.SubElement(facial_hair, f"{_SVG}clipPath", id="below-the-mouth")
    for x, y, width in ((0, 0, 50), (118, 0, 50), (0, 100, 168)):
        _add(clip, "rect", x=x, y=y, width=width, height=200)
    group = ElementTree.SubElement(facial_hair, f"{_SVG}g", {"clip-path": "url(#below-the-mouth)"})
    group.extend(ElementTree.fromstring(_beard()))


def _by_id(root: ElementTree.Element, name: str) -> ElementTree.Element:
    """The package puts the file's name and an underscore before each id."""
    return next(
        element for element in root.iter() if (element.get("id") or "").rpartition("_")[2] == name
    )


def _add(parent: ElementTree.Element, tag: str, **attributes: Any) -> None:
    ElementTree.SubElement(parent, _SVG + tag, {k: str(v) for k, v in attributes.items()})
