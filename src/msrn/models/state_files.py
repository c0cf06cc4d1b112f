"""Weights files: read without running code, checked entry by entry, loaded as a whole or not at all."""

from __future__ import annotations

import pickle
import re
import tarfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from msrn.errors import Problem, WeightsError

__all__ = [
    "MAX_HEADER_BYTES",
    "NoRandomInit",
    "first_line",
    "load_matching",
    "mismatches",
    "read_safetensors",
    "read_state",
    "read_torch",
    "require_finite",
]

MAX_HEADER_BYTES = 2**24
"""Largest header of a safetensors file, 16 MiB: a hundred bytes for each tensor."""


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or torch file, opened without running any code in it.

    A ``state_dict`` (or ``model``) entry is looked into, and a ``module.`` prefix taken off.

    Raises:
        WeightsError: the file is absent, is no such file, or holds objects beyond tensors and plain values.
    """
    if not path.is_file():
        raise WeightsError("expected a weights file, found none", where=str(path), hint="check the path")
    try:
        content: object = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    except ValueError as error:
        raise WeightsError(
            f"expected a safetensors or torch file of plain tensors: {error}",
            where=str(path),
            hint="files that need to run code are refused; save torch.save(model.state_dict(), path) or safetensors",
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError("expected a state dict: entry name to tensor", where=str(path), hint="see read_state")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ValueError: it is absent, damaged, or has a header of more than ``MAX_HEADER_BYTES``.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"expected a header of at most {MAX_HEADER_BYTES:,} bytes, got {length:,}")
        return load_file(path)
    except Exception as error:  # a damaged file fails in many ways
        raise ValueError(first_line(error)) from error


def read_torch(path: Path) -> object:
    """What a torch file holds: tensors and plain values. No code in it is run.

    Raises:
        ValueError: it is absent or damaged, or holds objects of other kinds.
    """
    if path.is_file() and tarfile.is_tarfile(path):
        raise ValueError("it is a tar file; torch would unpack it into a folder of its own")
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old pickles, and of kinds of tensors that are refused later
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # IndexError and struct.error among them
        raise ValueError(first_line(error)) from error


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
        elif not _holds_numbers(state[name], value):
            found = f"{state[name].dtype}, {state[name].layout}, {state[name].device}"
            problems.append(Problem(f"entry {shown}: expected plain numbers as {value.dtype}, got {found}", where))
    return problems + [Problem(f"unknown entry {name.removeprefix('?')}", where) for name in state if name not in own]


def require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that names the first tensor with a number that is not finite."""
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"the numbers of {name} are not finite")


def _holds_numbers(given: Tensor, own: Tensor) -> bool:
    """Whether a tensor's numbers can be copied: files may hold tensors without content, sparse and quantised ones."""
    plain = given.layout == torch.strided and given.device.type != "meta" and not given.is_quantized
    return plain and not given.is_complex() and given.is_floating_point() == own.is_floating_point()


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
