"""The options of each command."""

from __future__ import annotations

from typing import Literal

from dcorr_models.data import DataSource
from dcorr_models.evaluation.class_protocol import ClassContentProtocol
from dcorr_models.evaluation.disentanglement_protocol import DisentanglementProtocol
from dcorr_models.evaluation.generation_protocol import GenerationProtocol
from dcorr_models.evaluation.protocol import AttributeProtocol
from dcorr_models.methods import Method
from dcorr_models.option_parser import Parser
from dcorr_models.training.execution import Execution
from dcorr_models.training.fit import LoopSettings

__all__ = ["build_parser"]


def build_parser() -> tuple[Parser, dict[str, Parser]]:
    """The main parser and, by name, those of the commands."""
    parser = Parser(
        prog="dcorr-models",
        description="Reference trainers: from data to a trained model, its metrics and pictures.",
    )
    commands = {
        "prepare": _prepare_parser(),
        "train": _train_parser(),
        "evaluate": _run_parser("Measure a finished run on held-out data."),
        "edit": _edit_parser(),
        "inpaint": _inpaint_parser(),
        "traverse": _traverse_parser(),
        "report": _run_parser("Write a run's report.html: curves, pictures, metrics, settings."),
        "compare": _compare_parser(),
        "configs": Parser(description="List the configs that come with the package."),
    }
    commands["evaluate"].add_argument("--seed", type=int, default=0, help="of the probes")
    commands["evaluate"].add_class_arguments(AttributeProtocol, "attributes")
    commands["evaluate"].add_class_arguments(ClassContentProtocol, "transfer")
    commands["evaluate"].add_class_arguments(GenerationProtocol, "generation")
    commands["evaluate"].add_class_arguments(DisentanglementProtocol, "disentanglement")
    subcommands = parser.add_subcommands(dest="command")
    helps = {
        "prepare": "download a data set, with checksums",
        "train": "train a method into a run folder",
        "evaluate": "measure a finished run",
        "edit": "edit images with a finished run",
        "inpaint": "fill a hole in images with a finished run",
        "traverse": "a GIF in which each latent number of a finished run moves by itself",
        "report": "write report.html of a finished run",
        "compare": "put evaluated runs side by side",
        "configs": "list the configs that come with the package",
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
        "Edit images with a finished run: to another class (--target), attributes by value (--set, "
        "--attribute), or the class of one image with the content of another (--class_of, "
        "--content_of). Without any of these, every class, every attribute or every pair."
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
    parser.add_argument(
        "--class_of", type=list[str], default=[], help="your own image files that give their class"
    )
    parser.add_argument(
        "--content_of",
        type=list[str],
        default=[],
        help="your own image files that give their content; test images stand for what is left out",
    )
    parser.add_argument("--images", type=list[str], default=[], help="your own image files")
    parser.add_argument(
        "--indices",
        type=list[int] | None,
        default=None,
        help="test images, if no files; by default the first eight, for pairs five of several "
        "classes",
    )
    parser.add_argument("--invert", action="store_true", help="your files are dark on white")
    parser.add_argument("--out", type=str | None, default=None, help="folder; default RUN/edited")
    return parser


def _inpaint_parser() -> Parser:
    parser = _run_parser(
        "Fill a hole in images with a finished run: both codes of what is left of an image say "
        "what belongs there."
    )
    parser.add_argument(
        "images", type=str, nargs="*", default=[], help="your own image files; or test images"
    )
    parser.add_argument(
        "--mask",
        type=str,
        required=True,
        help="the hole: right_half, bottom_half, box:TOP,LEFT,HEIGHT,WIDTH in pixels, "
        "random_square:SIDE,SEED, or an image file of the images' size, white where the hole is",
    )
    parser.add_argument(
        "--fill", type=float, default=0.5, help="of the hole while it is read, 0 black to 1 white"
    )
    parser.add_argument(
        "--indices", type=list[int] | None, default=None, help="test images; the first eight"
    )
    parser.add_argument("--invert", action="store_true", help="your files are dark on white")
    parser.add_argument("--out", type=str | None, default=None, help="folder; RUN/inpainted")
    return parser


def _traverse_parser() -> Parser:
    parser = _run_parser(
        "Write a GIF in which each latent number moves by itself, from one end to the other and "
        "back; a row for each network that draws: the VAE, and the generator that learned of it."
    )
    parser.add_argument("--out", type=str | None, default=None, help="file; RUN/traversal.gif")
    parser.add_argument(
        "--dimensions",
        type=list[int] | None,
        default=None,
        help="numbers that move, such as '[0, 3]'; the ten that spread most over test images",
    )
    parser.add_argument(
        "--image", type=str | None, default=None, help="your own image file, which they start from"
    )
    parser.add_argument("--index", type=int, default=0, help="or a test image")
    parser.add_argument(
        "--range", type=float, default=2.0, help="how far, in standard deviations of the prior"
    )
    parser.add_argument("--frames", type=int, default=24, help="from one end to the other")
    parser.add_argument("--invert", action="store_true", help="your file is dark on white")
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
