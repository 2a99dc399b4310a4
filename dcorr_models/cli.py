"""`dcorr-models` or `python -m dcorr_models`: prepare, train, evaluate, edit, report, compare.

The constructors of methods and data sets are the options and their docstrings the help. A mistake
of the caller is one line on standard error and exit code 2.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import Namespace

from dcorr_models.data import DataSource
from dcorr_models.data.splitting import check_seed
from dcorr_models.errors import UserError
from dcorr_models.evaluation.protocol import AttributeProtocol
from dcorr_models.methods import Method
from dcorr_models.option_errors import explain, one_line
from dcorr_models.option_parser import BASES, OptionError, Parser
from dcorr_models.run_folder import RunFolder
from dcorr_models.training.execution import Execution
from dcorr_models.training.fit import LoopSettings

__all__ = ["main"]

CONFIGS = Path(__file__).parent / "configs"


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The main parser and, by name, those of the commands."""
    parser = Parser(prog="dcorr-models", description=(__doc__ or "").split("\n", 1)[0])
    commands = {
        "prepare": _prepare_parser(),
        "train": _train_parser(),
        "evaluate": _run_parser("Measure a finished run on held-out data."),
        "edit": _edit_parser(),
        "report": _run_parser("Write a run's report.html: curves, pictures, metrics, settings."),
        "compare": _compare_parser(),
    }
    commands["evaluate"].add_argument("--seed", type=int, default=0, help="of the probes")
    commands["evaluate"].add_class_arguments(AttributeProtocol, "attributes")
    subcommands = parser.add_subcommands(dest="command")
    helps = {
        "prepare": "download a data set, with checksums",
        "train": "train a method into a run folder",
        "evaluate": "measure a finished run",
        "edit": "edit images with a finished run",
        "report": "write report.html of a finished run",
        "compare": "put evaluated runs side by side",
    }
    for name, command in commands.items():
        subcommands.add_subcommand(name, command, help=helps[name])
    return parser, commands


def _prepare_parser() -> Parser:
    parser = Parser(description="Download a data set where it can be downloaded, with checksums.")
    parser.add_subclass_arguments(DataSource, "data", required=True, help="the data set")
    parser.add_argument(
        "--mirror", type=str | None, default=None, help="download from this address"
    )
    parser.add_argument(
        "--verify", action="store_true", help="look at every file and name those that are broken"
    )
    parser.add_argument(
        "--skip-corrupt",
        action="store_true",
        help="leave broken image files out, with a count; the same as --data.skip_corrupt true, "
        "which `train` needs too",
    )
    return parser


def _train_parser() -> Parser:
    parser = Parser(description="Train a method on a data set into a run folder.")
    parser.add_argument(
        "--config", action="config", help="YAML file, or the name of one of the packaged ones"
    )
    parser.add_argument("--run", type=str, required=True, help="folder of the run")
    parser.add_subclass_arguments(Method, "method", required=True, help="the method")
    parser.add_subclass_arguments(DataSource, "data", required=True, help="the data set")
    parser.add_argument("--seed", type=int, default=1, help="of weights, order, dropout and noise")
    parser.add_argument(
        "--resume", action="store_true", help="continue the run in that folder, or begin it"
    )
    parser.add_class_arguments(LoopSettings, "loop")
    parser.add_argument("--accelerator", type=str, default="auto", help="cpu, cuda, mps or auto")
    parser.add_argument("--devices", type=int, default=1, help="processes, one a device")
    parser.add_argument(
        "--precision",
        type=Literal["32-true", "bf16-mixed"],
        default="32-true",
        help="as Lightning Fabric names them; 16-mixed needs a loss scale, which steps with several"
        " players have no single one of",
    )
    parser.add_class_arguments(Execution)
    return parser


def _run_parser(description: str) -> Parser:
    parser = Parser(description=description)
    parser.add_argument("run", type=str, help="folder of the run")
    return parser


def _edit_parser() -> Parser:
    parser = _run_parser(
        "Edit images with a finished run: to another class (--target), or attributes by value "
        "(--set, --attribute). Without any of these, every class or every attribute."
    )
    parser.add_argument("--target", type=str | None, default=None, help="the class to edit to")
    parser.add_argument(
        "--set",
        type=str | None,
        default=None,
        help="values that attributes get at once, such as '{Eyeglasses: 3.0, Smiling: 0}'",
    )
    parser.add_argument(
        "--attribute", type=str | None, default=None, help="one attribute, at each intensity"
    )
    parser.add_argument(
        "--intensities",
        type=list[float] | None,
        default=None,
        help="of --attribute, such as '[-1.5, 0, 1.5, 3]'; five over the method's range by default",
    )
    parser.add_argument("--images", type=list[str], default=[], help="your own image files")
    parser.add_argument(
        "--indices",
        type=list[int],
        default=[0, 1, 2, 3, 4, 5, 6, 7],
        help="test images, if no files",
    )
    parser.add_argument("--invert", action="store_true", help="your files are dark on white")
    parser.add_argument("--out", type=str | None, default=None, help="folder; default RUN/edited")
    return parser


def _compare_parser() -> Parser:
    parser = Parser(
        description="Put evaluated runs of one data set side by side. Runs that differ in the seed "
        "alone become one row: mean and standard deviation."
    )
    parser.add_argument("runs", type=str, nargs="+", help="folders of the runs")
    parser.add_argument(
        "--out", type=str | None, default=None, help="page to write; compare.html if nothing else"
    )
    parser.add_argument(
        "--markdown", type=str | None, default=None, help="file for the tables; - prints them"
    )
    parser.add_argument(
        "--pictures", type=str | None, default=None, help="new folder for the pictures as files"
    )
    parser.add_argument(
        "--names", type=list[str], default=[], help="of the rows, such as '[M3, M3+dCov]'"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the words after the program's name; `sys.argv` by default.

    Returns:
        0; 2 after a mistake of the caller, 130 after an interrupt.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser, commands = build_parser()
        if not words:
            parser.print_help()
            return 0
        options = parser.parse_args(_packaged_configs(words))
        name = options.command
        COMMANDS[name](options[name], commands[name])
    except OptionError as error:
        print(f"dcorr-models: error: {explain(str(error), BASES)}", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"dcorr-models: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    except UnicodeDecodeError as error:
        print(f"dcorr-models: error: a file is not UTF-8 text: {error}", file=sys.stderr)
        return 2
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
    data = parser.instantiate(options).data
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
        objects = parser.instantiate(options)
    except OptionError:
        raise
    except (RuntimeError, ValueError, TypeError, ImportError) as error:
        raise UserError(explain(str(error), BASES)) from error
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


def _evaluate(options: Namespace, parser: Parser) -> None:
    from dcorr_models.evaluation import evaluate
    from dcorr_models.experiment import load_run

    check_seed(options.seed)
    try:
        protocol = parser.instantiate(options).attributes
    except OptionError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(explain(str(error), BASES)) from error
    folder, method, data = load_run(options.run)
    result = evaluate(method, data.splits(), seed=options.seed, attributes=protocol)
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
        images=options.images,
        indices=options.indices,
        invert=options.invert,
    )
    print(f"written: {written}")


def _attribute_values(words: str | None) -> dict[str, Any] | None:
    """`{Eyeglasses: 3.0, Smiling: 0}` as a dictionary; `edit_files` checks the values."""
    if words is None:
        return None
    try:
        values = yaml.safe_load(words)
    except yaml.YAMLError:
        values = None
    if not isinstance(values, dict):
        raise UserError(
            f"--set takes attributes and values, such as '{{Eyeglasses: 3.0, Smiling: 0}}', "
            f"got {words!r}"
        )
    return {str(name): value for name, value in values.items()}


def _report(options: Namespace, parser: Parser) -> None:
    from dcorr_models.experiment import load_run
    from dcorr_models.report import build_report

    folder, method, data = load_run(options.run)
    written = build_report(
        folder, method, data.splits(), data_name=data.name, label_names=data.label_names
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


COMMANDS: dict[str, Callable[[Namespace, Parser], None]] = {
    "prepare": _prepare,
    "train": _train,
    "evaluate": _evaluate,
    "edit": _edit,
    "report": _report,
    "compare": _compare,
}


def _packaged_configs(words: list[str]) -> list[str]:
    """`--config cdnet_digits` names a packaged file where no such file lies in this folder."""
    result = []
    for position, word in enumerate(words):
        given, prefix = word, ""
        if word.startswith("--config="):
            prefix, given = "--config=", word.removeprefix("--config=")
        elif position == 0 or words[position - 1] != "--config":
            result.append(word)
            continue
        packaged = CONFIGS / (given if given.endswith(".yaml") else f"{given}.yaml")
        if not Path(given).exists():
            if not packaged.exists():
                names = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
                raise UserError(
                    f"no config {given!r}: neither a file nor one of the packaged ones "
                    f"({', '.join(names)})"
                )
            given = str(packaged)
        result.append(prefix + given)
    return result


def _flat_lines(content: dict[str, Any], prefix: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict):
            lines += _flat_lines(value, f"{prefix}{key}.")
        elif isinstance(value, float):
            lines.append(f"{prefix}{key}: {value:.4f}")
        elif not isinstance(value, list):
            lines.append(f"{prefix}{key}: {value}")
    return lines
