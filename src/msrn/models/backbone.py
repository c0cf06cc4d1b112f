"""Any timm network as an ordered list of feature maps (MSRN, section 3.1: multi-layered features)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import timm
import torch
from timm.data import resolve_data_config
from torch import Tensor, nn

from msrn.errors import ConfigError, did_you_mean
from msrn.models.image_sizes import sizes_that_fit
from msrn.models.pretrained import imagenet_state

__all__ = ["Backbone", "InputStatistics"]


@dataclass(frozen=True, slots=True)
class InputStatistics:
    """Input scaling of a backbone's weights: mean and standard deviation of pixels in [0, 1], and interpolation."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


class Backbone(nn.Module):
    """A timm backbone that returns chosen stages as ``(B, C_t, H_t, W_t)``, shallow to deep.

    Channels-last networks are transposed and plain transformers give maps of equal size, so a head need not know the
    family of its backbone.

    Args:
        name: any timm model that supports ``features_only``, with or without a weights tag (``resnet101.tv_in1k``).
        stages: indices into the network's list of stages; negative ones count from the deepest.
        weights: ``auto``, ``hub``, ``wheel``, ``none`` or a file (see ``models.pretrained.imagenet_state``).
        final_conv: apply the network's own last 1x1 convolution to the deepest map (EfficientNet: 320 to 1280
            channels); ``features_only`` leaves it off.
        image_size: side in pixels; needed by networks whose position embeddings are for one size.

    Raises:
        ConfigError: unknown network, stage out of range, or no final convolution to add.
        WeightsError, DependencyError: as ``imagenet_state``.
    """

    def __init__(
        self,
        name: str,
        *,
        stages: Sequence[int] = (-3, -2, -1),
        weights: str = "auto",
        final_conv: bool = False,
        image_size: int | None = None,
    ) -> None:
        super().__init__()
        config = _timm_config(name)
        size = {"img_size": image_size} if image_size and config.fixed_input_size else {}
        try:
            classifier = timm.create_model(name, pretrained=False, **size)
        except (AssertionError, RuntimeError, ValueError, TypeError) as error:  # sizes that its patches do not divide
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            fit = sizes_that_fit(name, image_size or config.input_size[-1])
            raise ConfigError(
                f"timm cannot build {name} for images of {image_size} px: {first}",
                where="data.image_size",
                hint=f"sizes that fit: {', '.join(map(str, fit))}" if fit else "choose another backbone",
            ) from error
        state = imagenet_state(name, classifier, weights, size=size)
        if state is not None:
            classifier.load_state_dict(state)
        available = _stages(name, size)
        indices = _resolve_stages(name, stages, len(available))
        try:
            self.body = _body(name, indices, classifier, size)
        except AssertionError as error:  # some networks list a stage that they have no module for
            raise ConfigError(
                f"timm gives no feature maps for the stages {indices} of {name}: {error}",
                where="model.stages",
                hint="leave out the shallowest; the last three are [-3, -2, -1]",
            ) from error
        self.channels_last = str(getattr(self.body, "output_fmt", "NCHW")).endswith("NHWC")
        stages_info: Any = self.body.feature_info
        channels, strides = list(stages_info.channels()), list(stages_info.reduction())
        self.final_conv: nn.Module | None = None
        if final_conv:
            self.final_conv = _final_conv(name, classifier, deepest=indices[-1] == len(available) - 1)
            channels[-1] = classifier.num_features
        self.name = name
        self._stage_names = available[: indices[-1] + 1]
        self.channels: tuple[int, ...] = tuple(channels)
        self.strides: tuple[int, ...] = tuple(strides)
        data = resolve_data_config(pretrained_cfg=config.to_dict())
        self.statistics = InputStatistics(tuple(data["mean"]), tuple(data["std"]), data["interpolation"])

    def forward(self, image: Tensor | list[Tensor]) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C_t, H_t, W_t)`` per stage; maps that were computed before pass as they are."""
        if isinstance(image, list):
            return image
        maps: list[Tensor] = self.body(image)
        if self.channels_last:
            maps = [features.permute(0, 3, 1, 2) for features in maps]
        if self.final_conv is not None:
            maps[-1] = self.final_conv(maps[-1])
        return maps

    def freeze(self, parts: int) -> None:
        """Hold the first ``parts`` parts fixed: the stem, then the stages; -1 holds all of it.

        Raises:
            ConfigError: there are fewer parts.
        """
        if parts < 0:
            self.requires_grad_(False)
            return
        groups = self.parts()
        if parts > len(groups):
            raise ConfigError(
                f"expected at most {len(groups)} parts of {self.name} to hold fixed, got {parts}",
                where="model.freeze",
                hint=f"{self.name} has a stem and {len(groups) - 1} stages up to the deepest map; -1 holds all of it",
            )
        for parameter in [each for group in groups[:parts] for each in group]:
            parameter.requires_grad_(False)

    def hold_norms(self, *, everywhere: bool) -> None:
        """Keep batch norms at their stored statistics: all of them, or those whose weights are held fixed.

        Call it after every ``train()``.
        """
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                fixed = not any(parameter.requires_grad for parameter in module.parameters())
                if everywhere or fixed:
                    module.eval()

    def parts(self) -> list[list[nn.Parameter]]:
        """The weights from shallow to deep: those of the stem, then those of each stage; every weight is in one part.

        timm names the module that each stage ends with. A weight belongs to the first stage that ends with its module
        or after it, in the order of definition; position embeddings and the like come first, and are the stem's. Where
        there are no modules of such names, the n-th entries of the network's lists are the n-th stage.
        """
        inner = list(self.body.children())
        body = inner[0] if len(inner) == 1 else self.body  # timm wraps some networks whole
        names = [name.replace(".", "_") for name, _ in body.named_modules()]
        weights = [list(module.parameters(recurse=False)) for module in body.modules()]
        ends: list[int] = [0]
        stages = list(dict.fromkeys(name.replace(".", "_") for name in self._stage_names if name)) or ["none"]
        if not any(stage in names for stage in stages):
            inside = next((name.removesuffix(stages[0]) for name in names if name.endswith(f"_{stages[0]}")), "")
            if inside.removesuffix("_") not in names[1:] or f"{inside}{stages[-1]}" not in names:
                return [group for group in _by_entry(body, len(self._stage_names)) if group]
            stages = [f"{inside}{stage}" for stage in stages]  # timm names them from within an encoder
        for stage in stages:
            places = [place for place, name in enumerate(names) if name == stage or name.startswith(f"{stage}_")]
            if places and ends == [0]:
                ends.append(places[0])  # what stands before the first stage is the stem
            ends.append(max(ends[-1], max(places, default=0) + 1))
        ends[-1] = len(names)
        groups = [[each for inside in weights[start:end] for each in inside] for start, end in pairwise(ends)]
        return [group for group in groups if group]

    def _own_parameters(self) -> Iterator[nn.Parameter]:
        return self.final_conv.parameters() if self.final_conv is not None else iter(())


def _by_entry(body: nn.Module, stages: int) -> list[list[nn.Parameter]]:
    """The weights outside of all lists of modules with an entry for each stage, then the entries by place."""
    lists = [each for each in body.children() if isinstance(each, nn.ModuleList) and len(each) >= stages]
    entries = [(min(place, stages - 1), entry) for each in lists for place, entry in enumerate(each)]
    stage = {weight: place + 1 for place, entry in entries for weight in entry.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(stages + 1)]
    for weight in body.parameters():
        groups[stage.get(weight, 0)].append(weight)
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


def _resolve_stages(name: str, stages: Sequence[int], count: int) -> list[int]:
    resolved = [stage + count if stage < 0 else stage for stage in stages]
    if not resolved or any(not 0 <= stage < count for stage in resolved) or sorted(set(resolved)) != resolved:
        raise ConfigError(
            f"expected increasing stage indices between {-count} and {count - 1} for {name}, got {list(stages)}",
            where="model.stages",
            hint=f"{name} has {count} stages; the last three are [-3, -2, -1]",
        )
    return resolved


def _final_conv(name: str, classifier: nn.Module, *, deepest: bool) -> nn.Module:
    parts: list[nn.Module] = [getattr(classifier, part) for part in ("conv_head", "bn2") if hasattr(classifier, part)]
    if not deepest or len(parts) < 2:
        raise ConfigError(
            f"{name} has no final convolution to apply"
            + ("" if deepest else ": model.stages leaves out the last stage"),
            where="model.final_conv",
            hint="set model.final_conv to false, or use an EfficientNet with its last stage in model.stages",
        )
    return nn.Sequential(*parts)
