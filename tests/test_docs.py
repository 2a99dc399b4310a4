"""The examples of the documentation run, and say what comes out."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: Path) -> str:
    """The blocks of a page that have prompts, each line where it stands in the page."""
    source = page.read_text(encoding="utf-8")
    lines = [""] * (source.count("\n") + 1)
    for block in FENCE.finditer(source):
        if ">>> " in block[1]:
            first = source.count("\n", 0, block.start(1))
            body = block[1].splitlines()
            lines[first : first + len(body)] = body
    return "\n".join(lines)


PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "_build" not in p.parts and examples(p).strip()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    test = doctest.DocTestParser().get_doctest(examples(page), {}, page.name, str(page), 0)
    assert test.examples
    failed, _ = doctest.DocTestRunner().run(test)
    assert failed == 0


def test_the_pages_with_examples_are_found():
    assert {page.name for page in PAGES} >= {"getting_started.md", "data.md", "cdnet.md"}


def test_the_map_of_dcorr_names_every_file():
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    named = re.findall(r"^ *(\w+\.py) ", page.split("### dcorr, file by file")[1], re.MULTILINE)
    package = DOCS.parent / "dcorr"
    files = [p.name for p in package.glob("*.py") if p.name != "__init__.py"]
    files += [p.name for p in (package / "pairwise").glob("*.py")]
    assert sorted(named) == sorted(files)


@pytest.fixture(scope="module")
def mathml():
    pytest.importorskip("sphinx", reason="the documentation's packages are not installed")
    spec = importlib.util.spec_from_file_location("mathml", DOCS / "mathml.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("tex", "wanted"),
    [
        (r"\frac12 x", "<mfrac><mn>1</mn><mn>2</mn></mfrac><mi>x</mi>"),
        (r"\frac1n", "<mfrac><mn>1</mn><mi>n</mi></mfrac>"),
        (r"\frac{12}{n}", "<mfrac><mn>12</mn><mi>n</mi></mfrac>"),
        (r"x^12", "<msup><mi>x</mi><mn>1</mn></msup><mn>2</mn>"),
        (r"x_{12}", "<msub><mi>x</mi><mn>12</mn></msub>"),
        (
            r"\hat x_n",
            '<msub><mover accent="true"><mi>x</mi><mo stretchy="false">ˆ</mo></mover>'
            "<mi>n</mi></msub>",
        ),
        (r"a < b", "<mi>a</mi><mo>&lt;</mo><mi>b</mi>"),
    ],
)
def test_formulas_read_as_in_tex(mathml, tex, wanted):
    from docutils import nodes

    made = mathml.to_mathml(nodes.math(tex, tex), block=False)
    assert re.sub(r">\s+<", "><", made) == f"<math>{wanted}</math>"
