"""In which forms can a network run that say the same?

As loaded; batch norms folded into the convolutions before them, with channels last or first in memory; the same with
the part after the backbone, or all of it, in bfloat16 where the processor computes with that. ``torch.compile`` is left
out: it needs a C++ compiler on the machine and minutes of its time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from msrn.models.classifier import ModelOutput, Tagger
from msrn.models.fuse import fold_batch_norms, with_tensors

__all__ = ["Form", "computes_bfloat16", "forms"]

_CAST_ONCE = (nn.Conv2d, Conv2dSame, nn.Linear)  # exactly these: all they do with their weights is multiply


class Form(nn.Module):
    """One way to compute a model: called as the model is, its logits are float32.

    In bfloat16 it runs under autocast, with the weights of convolutions and linear layers converted once and not in
    every call. Label semantics stay in float32, and so does the layer that gives the logits: numbers of 8 bits would
    put pictures on the same rank.
    """

    def __init__(self, name: str, model: Tagger, *, layout: torch.memory_format, dtype: torch.dtype) -> None:
        super().__init__()
        self.name = name
        self.model = model
        self.layout = layout
        self.dtype = dtype

    def forward(self, image: Tensor) -> ModelOutput:
        """As the model's; ``image`` in any memory layout."""
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.dtype is torch.bfloat16):
            logits, aux = self.model(image.contiguous(memory_format=self.layout))
        return ModelOutput(logits.float(), aux)


def forms(model: Tagger, image: Tensor) -> list[Form]:
    """All forms to choose from, the network as loaded first. None shares more than unchanged tensors with the model.

    Args:
        model: in evaluation mode, on its device, in float32. It stays as it is.
        image: ``(B, 3, S, S)`` on that device, to see one pass; one is enough, and its values do not matter.
    """
    loaded = _converted(model, torch.channels_last)
    loaded.fold()
    last, first = torch.channels_last, torch.contiguous_format
    folded, count = fold_batch_norms(loaded, image[:1].contiguous(memory_format=last))
    folding = f"{count} batch norms folded, " if count else ""
    found = [Form("as loaded", loaded, layout=last, dtype=torch.float32)]
    if count:
        found.append(Form(f"{folding}channels last", folded, layout=last, dtype=torch.float32))
    found.append(Form(f"{folding}channels first", _converted(folded, first), layout=first, dtype=torch.float32))
    if computes_bfloat16(image.device):
        output = _output_layer(folded, image[:1])
        for words, outside in ((" after the backbone", [*output, "backbone"]), ("", output)):
            cast = _cast(folded, outside)
            if any(parameter.dtype is torch.bfloat16 for parameter in cast.parameters()):
                name = f"{folding}channels last, bfloat16{words}"
                found.append(Form(name, cast, layout=last, dtype=torch.bfloat16))
    return found


def computes_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 rather than converting; False where torch cannot tell."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # The oldest torch that we allow does not have this function yet.
    capabilities: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _converted(model: Tagger, layout: torch.memory_format) -> Tagger:
    return with_tensors(
        model, lambda _, tensor: tensor.contiguous(memory_format=layout) if tensor.ndim == 4 else tensor
    )


def _cast(model: Tagger, outside: Sequence[str]) -> Tagger:
    """A copy for autocast: weights in bfloat16, but for the modules named, which run in float32."""
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

    def forward(self, *inputs: Tensor) -> Any:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return self.inner(*(tensor.float() for tensor in inputs))


@torch.inference_mode()
def _output_layer(model: Tagger, image: Tensor) -> list[str]:
    """Name of the module whose output, as it is, are the logits; none if they are made of several."""
    outputs: list[tuple[str, Any]] = []  # in the order of their ends, so that the innermost comes first
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
    return [name for name, output in outputs if output is logits][:1]
