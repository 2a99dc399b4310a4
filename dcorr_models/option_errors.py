"""jsonargparse explains a wrong option over many lines; these functions say the cause in one."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator

__all__ = ["explain", "one_line"]

# What a type is called on the command line, where Python's own name says too little.
_FORMS = {
    "list": "a list, such as '[a, b]'",
    "tuple": "a list, such as '[1, 2]'",
    "dict": "names and values, such as '{a: 1}'",
}
# One kind of value, not the None of an option that may be left out; then what came instead.
_WRONG = re.compile(
    r"Expected an? (?:<class '(?!NoneType)([\w.]+)'>|tuple with (\d+) elements)"
    r".*?(?:Got value|Given value): (.*?)(?: - Expected| Given value|$)"
)


def one_line(message: str) -> str:
    r"""All white space folded.

    Example:
        >>> one_line("a\n  b")
        'a b'
    """
    return " ".join(message.split())


def explain(message: str, bases: dict[str, type]) -> str:
    r"""One line for an error of the parser: the option, what it takes, what came.

    Args:
        message: the parser's message.
        bases: by option name, the base class whose subclasses it takes, for suggestions.

    Example:
        >>> explain("Parser key \"seed\": Expected a <class 'int'>. Got value: one", {})
        "--seed takes int, got 'one'"
    """
    text = one_line(message)
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    option = "--" + ".".join(keys)
    top = keys[0].split(".")[0] if keys else ""
    value = re.search(r"Given value: (?:NestedArg\(key='[\w.]+', val=)?'?([^')\s]*)", text)

    unknown = re.search(r"Option '([\w.]+)' is not accepted", text)
    if unknown:
        return f"{option} has no option {unknown[1]!r}{_nearest(unknown[1], bases.get(top))}"
    absent = re.search(r"arguments are required: ([\w.]+(?:, [\w.]+)*)", text)
    if absent:
        names = [name.split(".", 1)[-1] for name in absent[1].split(", ")]
        if "run" in names and absent[1].split(".")[0] != "train":  # a word, not an option
            others = "".join(f", and --{name}" for name in names if name != "run")
            return f"the folder of a run is required{others}"
        if absent[1] == "compare.runs":
            return "the folders of runs are required"
        if keys:
            return f"{option} needs {', '.join(n.removeprefix('init_args.') for n in names)}"
        return "required: " + ", ".join(f"--{n}{_known(bases.get(n))}" for n in names)
    choices = re.search(r"Expected a typing\.Literal\[([^\]]*)\](?:\. Got value: (\S+))?", text)
    if choices:
        got = choices[2] or (value[1] if value else "something else")
        own = ", or the import path of a class" if "import path" in text else ""
        return f"{option} takes one of {choices[1]}{own}, got {got!r}"
    missing = re.search(r"Expected a dot import path string: (\S+)", text)
    if missing:
        if "." in option:  # an option's own class, of which the bases know nothing
            return f"{option} takes no {missing[1]!r}, or there is no such class"
        return f"{option}: there is no {missing[1]!r}{_known(bases.get(top))}"
    if "Expected an instantiatable class, but is abstract" in text:
        return f"a base class was named, which cannot be trained{_known(bases.get(top))}"
    wrong = _WRONG.search(text)
    if wrong:
        wanted = f"{wrong[2]} values in a list" if wrong[2] else _FORMS.get(wrong[1], wrong[1])
        return f"{option} takes {wanted}, got {wrong[3].strip()!r}"
    required = re.search(r'(?:Key|Option) "?([\w.]+)"? is required', text)
    if required:
        return f"--{required[1]} is required{_known(bases.get(required[1]))}"
    inner = re.search(r"Errors: - (.*?) - Expected a <class 'NoneType'>", text)
    if inner and "Errors:" not in inner[1]:
        return inner[1]
    return text if len(text) <= 400 else text[:400] + " ..."


def _subclasses(base: type) -> Iterator[type]:
    child: type
    for child in base.__subclasses__():
        if not inspect.isabstract(child):
            yield child
        yield from _subclasses(child)


def _nearest(name: str, base: type | None) -> str:
    if base is None:
        return ""
    names = {n for cls in _subclasses(base) for n in inspect.signature(cls).parameters}
    if name.split(".")[-1] in names:  # of another class than the one that was named
        return ""
    close = difflib.get_close_matches(name.split(".")[-1], sorted(names - {"self"}), n=1)
    return f": did you mean {close[0]!r}?" if close else ""


def _known(base: type | None) -> str:
    if base is None:
        return ""
    names = sorted({cls.__name__ for cls in _subclasses(base)})
    return f": take {', '.join(names)} or the import path of your own"
