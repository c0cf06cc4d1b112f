"""Variants of a network that compute the same logits.

They are: the network as loaded; batch norms fused into the convolutions before them, with channels last or first in
memory; the same with the head, or the whole network, in bfloat16 where the processor computes in it. ``torch.compile``
is not among them: it needs a C++ compiler on the machine and takes minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from msrn.models.classifier import MultiLabelClassifier
from msrn.models.fuse import fuse_batch_norms, with_tensors
from msrn.models.heads.base import HeadOutput

__all__ = ["Variant", "computes_bfloat16", "variants"]

_CAST_ONCE = (nn.Conv2d, Conv2dSame, nn.Linear)  # exactly these: all they do with their weights is multiply


class Variant(nn.Module):
    """One way to compute a model. It is called as the model is; its logits are float32.

    In bfloat16 it runs under autocast, with the weights of convolutions and linear layers converted once and not in
    every call. Label semantics stay in float32, and so does the layer that gives the logits, or the whole head where no
    single layer gives them: 8 significant bits would give many images the same score.
    """

    def __init__(
        self, name: str, model: MultiLabelClassifier, *, layout: torch.memory_format, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.layout = layout
        self.dtype = dtype

    def forward(self, image: Tensor) -> HeadOutput:
        """As the model's; ``image`` in any memory layout."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            logits, aux = self.model(image.contiguous(memory_format=self.layout))
        return HeadOutput(logits.float(), aux)


def variants(model: MultiLabelClassifier, image: Tensor) -> list[Variant]:
    """All variants, the network as loaded first. They share only unchanged tensors with the model.

    Args:
        model: in evaluation mode, on its device, in float32. It is not changed.
        image: ``(B, 3, S, S)`` on that device, for a recorded pass; one image suffices, its values do not matter.
    """
    loaded = _converted(model, torch.channels_last)
    loaded.precompute()
    last, first = torch.channels_last, torch.contiguous_format
    fused, count = fuse_batch_norms(loaded, image[:1].contiguous(memory_format=last))
    fusing = f"{count} batch norms fused, " if count else ""
    found = [Variant("as loaded", loaded, layout=last, dtype=torch.float32)]
    if count:
        found.append(Variant(f"{fusing}channels last", fused, layout=last, dtype=torch.float32))
    found.append(Variant(f"{fusing}channels first", _converted(fused, first), layout=first, dtype=torch.float32))
    if computes_bfloat16(image.device):
        output = _output_layer(fused, image[:1])
        for where, outside in ((" after the backbone", [output, "backbone"]), ("", [output])):
            cast = _cast(fused, outside)
            if any(parameter.dtype is torch.bfloat16 for parameter in cast.parameters()):
                name = f"{fusing}channels last, bfloat16{where}"
                found.append(Variant(name, cast, layout=last, dtype=torch.bfloat16))
    return found


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16, not by converting to float32; False where torch does not report it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # The oldest torch that we support lacks this function.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _converted(model: MultiLabelClassifier, layout: torch.memory_format) -> MultiLabelClassifier:
    return with_tensors(
        model, lambda _, tensor: tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor
    )


def _cast(model: MultiLabelClassifier, outside: Sequence[str]) -> MultiLabelClassifier:
    """A copy for autocast: weights in bfloat16, except in the modules named, which run in float32."""
    kept = {module for name in outside for module in model.get_submodule(name).modules()}
    cast = with_tensors(
        model,
        lambda module, tensor: tensor.bfloat16() if type(module) in _CAST_ONCE and module not in kept else tensor,
    )
    for name in outside:
        parent, _, last = name.rpartition(".")
        cast.get_submodule(parent).add_module(last, _OutsideAutocast(cast.get_submodule(name)))
    return cast


class _OutsideAutocast(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Tensor | Sequence[Tensor]) -> Any:
        floats = [each.float() if isinstance(each, Tensor) else [one.float() for one in each] for each in inputs]
        first = floats[0] if isinstance(floats[0], Tensor) else floats[0][0]
        with torch.autocast(first.device.type, enabled=False):
            return self.inner(*floats)


@torch.inference_mode()
def _output_layer(model: MultiLabelClassifier, image: Tensor) -> str:
    """Name of the module whose output is the logits; ``head`` where the head computes them from several outputs."""
    outputs: list[tuple[str, Any]] = []  # in the order in which calls end, so that the innermost comes first
    hooks = [
        module.register_forward_hook(lambda _, __, output, name=name: outputs.append((name, output)))
        for name, module in model.named_modules()
        if name
    ]
    try:
        logits = model(image).logits
    finally:
        for hook in hooks:
            hook.remove()
    return next((name for name, output in outputs if output is logits), "head")
