"""`dcorr-models` or `python -m dcorr_models`: from data to a trained model, measured and looked at.

The constructors of methods and data sets are the options and their docstrings the help. A mistake
of the caller is one line on standard error and exit code 2.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace

from dcorr_models.command_parsers import build_parser
from dcorr_models.data.splitting import check_seed
from dcorr_models.errors import UserError
from dcorr_models.option_errors import explain, one_line
from dcorr_models.option_parser import BASES, OptionError, Parser
from dcorr_models.packaged_configs import packaged_configs, with_packaged_configs
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.execution import Execution

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the words after the program's name; `sys.argv` by default.

    Returns:
        0; 2 after a mistake of the caller, 130 after an interrupt, 141 if nobody reads the output.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser, commands = build_parser()
        if not words:
            parser.print_help()
            return 0
        options = parser.parse_args(with_packaged_configs(words))
        name = options.command
        COMMANDS[name](options[name], commands[name])
        sys.stdout.flush()
    except OptionError as error:
        print(f"dcorr-models: error: {explain(str(error), BASES)}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"dcorr-models: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        print(f"dcorr-models: error: a file is not UTF-8 text: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of the output, such as head, has seen enough. What is not yet written goes
        # nowhere, also at the interpreter's end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        # A full disk, a vanished folder: what was written before is whole.
        named = f"{error.filename}: " if error.filename else ""
        print(f"dcorr-models: error: {named}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\ndcorr-models: stopped; a training goes on from its last checkpoint with --resume",
            file=sys.stderr,
        )
        return 130
    return 0


def _prepare(options: Namespace, parser: Parser) -> None:
    if options.skip_corrupt:
        if "skip_corrupt" not in options.data.init_args:
            raise UserError(f"--skip-corrupt: {options.data.class_path} has no files to skip")
        options.data.init_args.skip_corrupt = True
    data = _made(parser, options).data
    if options.verify and not options.skip_corrupt:
        data.check_files()
    data.prepare(mirror=options.mirror)


def _train(options: Namespace, parser: Parser) -> None:
    from lightning_fabric import Fabric

    from dcorr_models.experiment import first_process, train
    from dcorr_models.training.random_state import seed_everything

    folder = RunFolder(options.run)
    # The cheap refusals first: before any network is made.
    check_seed(options.seed)
    if folder.exists and not options.resume and first_process():
        folder.begin({}, resume=False)
    seed_everything(options.seed)
    try:
        fabric = Fabric(
            accelerator=options.accelerator, devices=options.devices, precision=options.precision
        )
        execution = Execution(**{f.name: options[f.name] for f in fields(Execution)})
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        raise UserError(explain(str(error), BASES)) from error
    objects = _made(parser, options)
    train(
        objects.method,
        objects.data,
        options.run,
        seed=options.seed,
        resume=options.resume,
        loop=objects.loop,
        execution=execution,
        fabric=fabric,
        settings={
            "method": options.method.as_dict(),
            "data": options.data.as_dict(),
            "seed": options.seed,
        },
    )
    if fabric.is_global_zero:
        print(f"trained: {folder.weights}")


def _made(parser: Parser, options: Namespace) -> Namespace:
    """The objects that the options describe; what their constructors refuse is one line."""
    try:
        objects: Namespace = parser.instantiate(options)
        return objects
    except OptionError:
        raise
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        raise UserError(explain(str(error), BASES)) from error


def _evaluate(options: Namespace, parser: Parser) -> None:
    from dcorr_models.evaluation import evaluate
    from dcorr_models.experiment import load_run

    check_seed(options.seed)
    protocols = _made(parser, options)
    folder, method, data = load_run(options.run)
    # before minutes of measuring, not after
    folder.check_writable("copy the run to a folder that you may write to")
    result = evaluate(
        method,
        data.evaluation_splits(),
        seed=options.seed,
        attributes=protocols.attributes,
        transfer=protocols.transfer,
        generation=protocols.generation,
        disentanglement=protocols.disentanglement,
        target_names=getattr(data, "target_names", ()),
        factor_names=data.factor_names,
    )
    folder.write_json(folder.evaluation, result)
    for line in _flat_lines(result):
        print(line)
    print(f"written: {folder.evaluation}")


def _edit(options: Namespace, parser: Parser) -> None:
    from dcorr_models.editing import edit_files
    from dcorr_models.experiment import load_run

    if options.out and (Path(options.out) / "edited.png").exists():
        raise UserError(f"{options.out} already holds edited.png: give --out a new name")
    folder, method, data = load_run(options.run)
    written = edit_files(
        method,
        data,
        Path(options.out or folder.path / "edited"),
        target=options.target,
        values=_attribute_values(options["set"]),
        attribute=options.attribute,
        intensities=options.intensities,
        class_of=options.class_of,
        content_of=options.content_of,
        images=options.images,
        indices=options.indices,
        invert=options.invert,
    )
    print(f"written: {written}")


def _inpaint(options: Namespace, parser: Parser) -> None:
    from dcorr_models.editing import inpaint_files
    from dcorr_models.experiment import load_run

    if options.images and options.indices is not None:
        raise UserError("--indices name test images, and image files are given: leave one out")
    if options.out and (Path(options.out) / "inpainted.png").exists():
        raise UserError(f"{options.out} already holds inpainted.png: give --out a new name")
    folder, method, data = load_run(options.run)
    written = inpaint_files(
        method,
        data,
        Path(options.out or folder.path / "inpainted"),
        mask=options.mask,
        fill=options.fill,
        images=options.images,
        indices=options.indices,
        invert=options.invert,
    )
    print(f"written: {written}")


def _traverse(options: Namespace, parser: Parser) -> None:
    from dcorr_models.editing import traverse_file
    from dcorr_models.experiment import load_run

    folder, method, data = load_run(options.run)
    written = traverse_file(
        method,
        data,
        Path(options.out or folder.path / "traversal.gif"),
        dimensions=options.dimensions,
        image=options.image,
        index=options.index,
        reach=options.range,
        frames=options.frames,
        invert=options.invert,
    )
    print(f"written: {written}")


def _attribute_values(words: str | None) -> dict[str, Any] | None:
    """`{Eyeglasses: 3.0, Smiling: 0}` as a dictionary; `edit_files` checks the values."""
    if words is None:
        return None
    try:
        node = yaml.compose(words, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        node = None
    if not isinstance(node, yaml.MappingNode) or not all(map(_is_plain, node.value)):
        raise UserError(
            f"--set takes attributes and values, such as '{{Eyeglasses: 3.0, Smiling: 0}}', "
            f"got {words!r}"
        )
    # The words themselves: YAML would take the name No for false, the number 1e3 for a word, and
    # of two values for one name the last.
    names = [key.value for key, _ in node.value]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"--set names {twice!r} twice: give each attribute one value")
    return {key.value: _number(value.value) for key, value in node.value}


def _is_plain(pair: Sequence[yaml.Node]) -> bool:
    """Whether name and value are single words."""
    return all(isinstance(node, yaml.ScalarNode) for node in pair)


def _number(word: str) -> float | str:
    """What a word spells, or the word."""
    try:
        return float(word)
    except ValueError:
        return word


def _report(options: Namespace, parser: Parser) -> None:
    from dcorr_models.experiment import load_run
    from dcorr_models.report import build_report

    folder, method, data = load_run(options.run)
    written = build_report(
        folder, method, data.evaluation_splits(), data_name=data.name, label_names=data.label_names
    )
    print(f"written: {written}")


def _compare(options: Namespace, parser: Parser) -> None:
    from dcorr_models.report import compare_runs

    given = {name: options[name] for name in ("out", "markdown", "pictures")}
    if not any(given.values()):
        given["out"] = "compare.html"
    printed = given["markdown"] == "-"
    files = {
        name: Path(value)
        for name, value in given.items()
        if value is not None and not (name == "markdown" and printed)
    }
    comparison = compare_runs(options.runs, names=options.names, **files)
    if printed:
        print(comparison.markdown(), end="")
    # With the tables on standard output, nothing else goes there.
    for path in files.values():
        print(f"written: {path}", file=sys.stderr if printed else sys.stdout)


def _configs(options: Namespace, parser: Parser) -> None:
    for name, summary in packaged_configs().items():
        print(f"{name:32s} {summary}")


COMMANDS: dict[str, Callable[[Namespace, Parser], None]] = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "edit": _edit,
    "inpaint": _inpaint,
    "traverse": _traverse,
    "report": _report,
    "compare": _compare,
    "configs": _configs,
}


def _flat_lines(content: dict[str, Any], prefix: str = "") -> list[str]:
    """A line a number; what is there once for each attribute is left to the file and the report."""
    lines: list[str] = []
    for key, value in content.items():
        if key == "attributes":
            continue
        if isinstance(value, dict):
            lines += _flat_lines(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            lines.append(f"{prefix}{key}: {value:.4f}")
        elif not isinstance(value, list):
            lines.append(f"{prefix}{key}: {value}")
    return lines
