"""The YAML files that come with the package, by their names."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from dcorr_models.errors import UserError

__all__ = ["CONFIGS", "packaged_configs", "with_packaged_configs"]

CONFIGS = Path(__file__).parent / "configs"


def packaged_configs() -> dict[str, str]:
    """Name of each packaged config, and the first words of its opening comment.

    Example:
        >>> packaged_configs()["cdnet_mnist_dcov"]
        'CDNet-dCov on all of MNIST as in the paper'
    """
    return {path.stem: _summary(path) for path in sorted(CONFIGS.glob("*.yaml"))}


def with_packaged_configs(words: Sequence[str]) -> list[str]:
    """Command-line words in which `--config NAME` is a path, where no file NAME lies about.

    Raises:
        UserError: neither a file nor a packaged config (the nearest names are offered), or a file
            that is no text.
    """
    result = []
    for position, word in enumerate(words):
        given, prefix = word, ""
        if word.startswith("--config="):
            prefix, given = "--config=", word.removeprefix("--config=")
        elif position == 0 or words[position - 1] != "--config":
            result.append(word)
            continue
        result.append(prefix + str(_own(given) or _packaged(given)))
    return result


def _own(given: str) -> Path | None:
    """The user's own file; a folder of that name, such as that of a run, is none."""
    path = Path(given)
    if not path.is_file():
        return None
    try:
        path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"--config {given} is not a text file in UTF-8: {error}") from error
    return path


def _packaged(given: str) -> Path:
    name = given.removesuffix(".yaml")
    path = CONFIGS / f"{name}.yaml"
    if path.parent == CONFIGS and path.exists():
        return path
    names = [path.stem for path in sorted(CONFIGS.glob("*.yaml"))]
    near = difflib.get_close_matches(name, names, n=3) or ["cdnet_digits_demo"]
    raise UserError(
        f"no config {given!r}: neither a file nor one of the {len(names)} packaged ones, such as "
        f"{', '.join(near)}; `dcorr-models configs` lists them"
    )


def _summary(path: Path) -> str:
    """The opening comment up to its first stop, bracket or colon."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    words = " ".join(line.lstrip("# ") for line in comment)
    return re.split(r"[.:] | \(|, what |, the small", words, maxsplit=1)[0].rstrip(".:,")
