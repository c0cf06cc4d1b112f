"""Fuse batch norms into the convolutions before them, for inference.

In evaluation a batch norm is ``y = scale * x + shift`` per channel, and a convolution is linear, so the norm fits into
the convolution's weights and bias. timm has hundreds of networks, each with its own forward function, so the pairs are
not read from names: autograd records one forward pass, and its graph shows which convolution made the input of a batch
norm, and whether anything else reads it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from msrn.models.classifier import MultiLabelClassifier

__all__ = ["fuse_batch_norms", "with_tensors"]

# Exact types: what is derived from them may change the weights before use (weight standardisation, parametrisation).
_CONVOLUTIONS = (nn.Conv2d, Conv2dSame)
_NORMS = (nn.BatchNorm2d, BatchNormAct2d)

Model = TypeVar("Model", bound=nn.Module)


def fuse_batch_norms(model: MultiLabelClassifier, image: Tensor) -> tuple[MultiLabelClassifier, int]:
    """A copy for inference with batch norms fused into the convolutions before them, and their number.

    A norm is fused if its input is the output of a convolution that was called once and that nothing else reads, as
    far as the logits depend on it. Activations that timm puts into the norm stay. The model is not changed; it shares
    all tensors but the fused ones with the copy.

    Nothing is proven for a network whose computation depends on the image: compare the logits of both, as
    ``inference.autotune`` does.

    Args:
        model: in evaluation mode.
        image: ``(B, 3, H, W)`` for the recorded pass, one image suffices; its values do not matter.
    """
    # Autograd, which records the pass, takes no tensors that were made under inference mode.
    fused = with_tensors(model, lambda _, tensor: tensor.clone() if tensor.is_inference() else tensor)
    pairs = _pairs(fused, image)
    remains = {norm: norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity() for norm in pairs}
    with torch.no_grad():
        for norm, convolution in pairs.items():
            joined = fuse_conv_bn_eval(convolution, norm)
            convolution.weight, convolution.bias = joined.weight, joined.bias
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if child in remains:
                setattr(parent, name, remains[child])
    return fused, len(pairs)


def with_tensors(model: Model, convert: Callable[[nn.Module, Tensor], Tensor]) -> Model:
    """A copy of a model whose every parameter and buffer is ``convert(its module, tensor)``.

    Where ``convert`` gives back the tensor itself, model and copy share it: no memory is spent on it.
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for module in model.modules():
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                converted = convert(module, tensor)
                if isinstance(tensor, nn.Parameter) and converted is not tensor:
                    converted = nn.Parameter(converted, requires_grad=False)
                memo[id(tensor)] = converted
        return copy.deepcopy(model, memo)


def _pairs(model: MultiLabelClassifier, image: Tensor) -> dict[nn.BatchNorm2d, nn.Conv2d]:
    """The batch norms that alone read the output of a convolution, and that convolution."""
    made_by: dict[Any, nn.Conv2d] = {}  # a node of the graph, kept alive, to the convolution that it records
    read_by: dict[nn.BatchNorm2d, Any] = {}  # a batch norm to the node that made its input
    calls: Counter[nn.Module] = Counter()

    def convolved(module: nn.Conv2d, _: Any, output: Tensor) -> None:
        calls[module] += 1
        made_by[output.grad_fn] = module

    def normalising(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        calls[module] += 1
        read_by[module] = inputs[0].grad_fn

    hooks = []
    for module in model.modules():
        if type(module) in _CONVOLUTIONS:
            hooks.append(module.register_forward_hook(convolved))
        elif type(module) in _NORMS and not module.training and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(normalising))
    try:
        with torch.inference_mode(False), torch.enable_grad():
            logits = model(image.clone().requires_grad_().clone()).logits  # cloned again: a leaf takes no in-place step
    finally:
        for hook in hooks:
            hook.remove()
    readers = _readers(logits.grad_fn)
    return {
        norm: made_by[node]
        for norm, node in read_by.items()
        if node is not None and node in made_by and readers[node] == calls[norm] == calls[made_by[node]] == 1
    }


def _readers(node: Any) -> Counter[Any]:
    """How many operations read the output of each node that a result depends on."""
    readers: Counter[Any] = Counter()
    seen = {node} - {None}  # None: nothing was recorded
    waiting = list(seen)
    while waiting:
        for before, _ in waiting.pop().next_functions:
            readers[before] += 1
            if before is not None and before not in seen:
                seen.add(before)
                waiting.append(before)
    return readers
