"""Formulas as MathML, which browsers draw themselves: the pages need no script and no network.

The conversion is docutils' own. A command that it does not know is a warning with the page and the
command, and so an error of the build.
"""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

# What docutils lacks, in terms of what it has.
SUBSTITUTES = [
    (r"\\([Bb]igg?)(?=\s*[\[(])", r"\\\1l"),
    (r"\\([Bb]igg?)(?=\s*[\])])", r"\\\1r"),
    # TeX takes one character where no braces are; docutils takes a whole number.
    (r"\\([dt]?frac)\s*([0-9A-Za-z])\s*([0-9A-Za-z])", r"\\\1{\2}{\3}"),
    (r"([\^_])(\d)(?=\d)", r"\1{\2}"),
    (r"\\begin\{split\}", r"\\begin{aligned}"),
    (r"\\end\{split\}", r"\\end{aligned}"),
]

ACCENTS = set("ˆˉ¯˜~˙¨→_")


def to_mathml(node: nodes.Element, *, block: bool) -> str:
    """The formula of a node; the TeX itself where it cannot be converted."""
    tex = node.astext()
    for pattern, replacement in SUBSTITUTES:
        tex = re.sub(pattern, replacement, tex)
    if block and r"\\" in tex and r"\begin{" not in tex:
        tex = rf"\begin{{aligned}}{tex}\end{{aligned}}"
    try:
        return with_accents_right(tex2mathml(tex, as_block=block))
    except MathError as error:
        logger.warning("formula cannot be converted: %s", error, location=node)
        return f"<code>{html.escape(tex)}</code>"


def with_accents_right(source: str) -> str:
    r"""docutils sets the index of `\hat x_n` under the letter, as if the hat were a sum's limit."""
    source = re.sub(r' xmlns="[^"]*"', "", source)
    # XML itself knows five names; those of HTML become their characters.
    source = re.sub(
        r"&(?!amp;|lt;|gt;|quot;|apos;)\w+;", lambda found: html.unescape(found[0]), source
    )
    root = ET.fromstring(source)
    for element in root.iter("munderover"):
        base, index, over = element
        if over.tag == "mo" and over.text in ACCENTS:
            accented = ET.Element("mover", {"accent": "true"})
            accented.extend([base, over])
            element.tag = "msub"
            element[:] = [accented, index]
    return ET.tostring(root, encoding="unicode", short_empty_elements=False)


def visit_inline(translator: Any, node: nodes.math) -> None:
    """A formula in a sentence."""
    translator.body.append(to_mathml(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """A formula of its own, numbered if it has a label."""
    translator.body.append(translator.starttag(node, "div", CLASS="math-block"))
    if node["number"]:
        number = get_node_equation_number(translator, node)
        translator.body.append(f'<span class="eqno">({number})</span>')
    translator.body.append(to_mathml(node, block=True) + "</div>")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
