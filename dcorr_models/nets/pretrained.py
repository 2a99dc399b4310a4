"""Weights that were trained elsewhere: where their file lies, and what it holds, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dcorr_models.errors import CheckpointError, UserError

__all__ = ["TORCHVISION_FILES", "fill", "fingerprint", "read_weights", "torchvision_file"]

TORCHVISION_FILES = {
    ("vgg16", "IMAGENET1K_V1"): "vgg16-397923af.pth",
    ("vgg16", "IMAGENET1K_FEATURES"): "vgg16_features-amdegroot-88682ab5.pth",
    ("alexnet", "IMAGENET1K_V1"): "alexnet-owt-7be5be79.pth",
}
"""Network and torchvision's name of its weights: the file, named after its `fingerprint`."""


def fingerprint(path: Path) -> str:
    """The first 8 hexadecimal digits of a file's SHA-256, as in the names of torchvision's files.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     fingerprint(Path(file.name))
        'e3b0c442'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:8]


def torchvision_file(network: str, weights: str, *, download: bool) -> Path:
    """Where torchvision keeps the weights of a network.

    Args:
        network: `vgg16` or `alexnet`.
        weights: torchvision's name of the weights, such as `IMAGENET1K_V1`.
        download: a file that is not in torch's cache is fetched, by torchvision, where that is
            installed.

    Returns:
        The path of a file that exists.

    Raises:
        UserError: There is no such file, and no torchvision to fetch it.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / TORCHVISION_FILES[network, weights]
    if path.is_file():
        return path
    way_out = (
        f"{network} has no weights: put torchvision's {path.name} at {path}, or name a .pth or "
        ".safetensors file with features.0.weight and so on as its weights, or name the weights "
        f"{weights!r}, which torchvision downloads where it is installed"
    )
    if not download:
        raise UserError(way_out)
    try:
        from torchvision.models import get_weight
    except ImportError as error:
        raise UserError(way_out) from error
    enumeration = {"vgg16": "VGG16_Weights", "alexnet": "AlexNet_Weights"}[network]
    get_weight(f"{enumeration}.{weights}").get_state_dict(check_hash=True)
    return path


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, by their names; no code in the file is run.

    Args:
        path: `.safetensors`, or what `torch.save` wrote.

    Raises:
        UserError: No such file.
        CheckpointError: A file that holds something else, or is damaged.
    """
    if not path.is_file():
        raise UserError(f"there is no file of weights {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        raise CheckpointError(f"{path} cannot be read as weights: {_line(error)}") from error
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f"{path} holds no state dict: wanted names and tensors, as torch.save writes them "
            "from state_dict()"
        )
    return content


def fill(network: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Puts copies of the weights into a network, as float32; other names are passed over.

    The network may lie on the `meta` device, which spends no time on values to be replaced.

    Args:
        network: changed in place.
        weights: a tensor for each name of its state dict.
        source: what an error calls the weights.

    Raises:
        CheckpointError: A name is missing, or a shape is another.

    Example:
        >>> with torch.device("meta"):
        ...     net = nn.Linear(2, 1)
        >>> fill(net, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}, "these")
        >>> net(torch.tensor([1.0, 2.0])).item()
        3.0
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights]
    if missing:
        raise CheckpointError(
            f"{source} lacks {len(missing)} of the {len(own)} tensors wanted, the first is "
            f"{missing[0]!r}"
        )
    for name, tensor in own.items():
        if weights[name].shape != tensor.shape:
            raise CheckpointError(
                f"{source} does not fit: {name} has shape {tuple(weights[name].shape)}, wanted "
                f"{tuple(tensor.shape)}"
            )
    # Copies: what torch.load returns may be views of one large buffer.
    taken = {
        name: weights[name].to(
            torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True
        )
        for name, tensor in own.items()
    }
    network.load_state_dict(taken, assign=True)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
