"""Weights files: read without running code, checked entry by entry, loaded as a whole or not at all."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from msrn.errors import Problem, WeightsError

__all__ = ["NoRandomInit", "first_line", "load_matching", "mismatches", "read_state"]


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
            f"expected a safetensors or torch file of plain tensors: {first_line(error)}",
            where=str(path),
            hint="files that need to run code are refused; save torch.save(model.state_dict(), path) or safetensors",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError("expected a state dict: entry name to tensor", where=str(path), hint="see read_state")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_matching(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    where: str,
    entry_names: Mapping[str, str] | None = None,
) -> None:
    """Load a state dict after checking every entry.

    Args:
        model: receives the values.
        state: entry name to tensor.
        where: the file, for the message.
        entry_names: what an entry is called in the file, where that differs.

    Raises:
        WeightsError: everything that is missing, unknown or of another shape, in one message; nothing is loaded then.
    """
    own = model.state_dict()
    problems = mismatches(own, state, where, entry_names or {})
    if problems:
        raise WeightsError.of(problems, f"the weights do not fit {type(model).__name__}")
    model.load_state_dict({**own, **state})


def mismatches(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    where: str,
    entry_names: Mapping[str, str],
) -> list[Problem]:
    """Every entry that is missing, of another shape, or unknown."""
    problems = []
    for name, value in own.items():
        shown = entry_names.get(name, name)
        if name not in state:
            problems.append(Problem(f"missing entry {shown} {tuple(value.shape)}", where))
        elif state[name].shape != value.shape:
            problems.append(
                Problem(f"entry {shown}: expected shape {tuple(value.shape)}, got {tuple(state[name].shape)}", where)
            )
    return problems + [Problem(f"unknown entry {name.removeprefix('?')}", where) for name in state if name not in own]


class NoRandomInit(TorchFunctionMode):
    """Inside this context networks are built without drawing their random weights: all of them will be loaded.

    Drawing takes longer than loading (2 s for COCO's flatten head), and moves the random state of the program. Weights
    get the mean of what would be drawn, not whatever memory holds: ``nn.init.trunc_normal_`` draws again until all
    values are within its bounds.
    """

    FILLS = frozenset({"normal_", "uniform_", "trunc_normal_", "kaiming_normal_", "kaiming_uniform_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls ``func``, unless it would fill a tensor with random numbers."""
        kwargs = kwargs or {}
        if func.__name__ in self.FILLS:
            tensor: Tensor = args[0] if args else kwargs["tensor"]
            mean = args[1] if func.__name__ == "normal_" and len(args) > 1 else kwargs.get("mean", 0.0)
            with torch.no_grad():
                return tensor.fill_(mean)
        return func(*args, **kwargs)


def first_line(error: Exception) -> str:
    """What went wrong, in one line; torch's own text on a refused pickle is coloured and advises to load it anyway."""
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"GLOBAL (\S+)", str(error))
        return f"it holds {refused[1]}" if refused else "it is no such file, or damaged"
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _numpy_scalars() -> list[Any]:
    """What numpy numbers beside the tensors (``best_score``) need; none of it runs code of the file's choosing."""
    kinds = ("Float16DType", "Float32DType", "Float64DType", "Int32DType", "Int64DType", "BoolDType")
    scalar = np.float64(0).__reduce__()[0]
    return [scalar, np.dtype, *(getattr(np.dtypes, kind) for kind in kinds)]
