"""The Triton kernel compiled ahead for a GPU: what its inner loops cost, and that nothing spills."""

from __future__ import annotations

import importlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from attention_inputs import draw
from torch import Tensor

triton = pytest.importorskip("triton", reason="needs triton, which this environment lacks")

Results = tuple[Tensor, Tensor, Tensor]
Run = Callable[..., Results]

# Of the largest value: sums of float32, with an exponential good to 2e-7.
FORWARD, GRADIENT = 1e-6, 1e-5


class Ahead:
    """Stands in for a kernel: what the program would launch, as the compiler is told of it."""

    def __init__(self, kernel: Any) -> None:
        self.kernel = kernel
        self.calls: list[tuple[dict[str, str], dict[str, int], dict[tuple[int], list[list[object]]]]] = []
        self.options: dict[str, Any] = {}

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        return self.launch

    def launch(self, *arguments: Tensor | int, **options: Any) -> None:
        signature, constants, hints = {}, {}, {}
        pointers = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
        for place, (parameter, value) in enumerate(zip(self.kernel.params, arguments, strict=True)):
            if isinstance(value, Tensor):
                signature[parameter.name] = pointers[value.dtype]
                aligned = True
            elif parameter.is_constexpr or (value == 1 and not parameter.do_not_specialize):
                signature[parameter.name] = "constexpr"
                constants[parameter.name] = value
                aligned = False
            else:
                signature[parameter.name] = "i32"
                aligned = value % 16 == 0 and not parameter.do_not_specialize
            if aligned:
                hints[(place,)] = [["tt.divisibility", 16]]
        self.calls.append((signature, constants, hints))
        self.options = options

    def compiled(self) -> Any:
        source = triton.compiler.ASTSource(self.kernel, *self.calls[-1])
        target = triton.backends.compiler.GPUTarget("cuda", 90, 32)
        return triton.compile(source, target=target, options=self.options)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Ahead]:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = importlib.import_module("msrn.ops.kernels.triton")
    kernels = {name: Ahead(getattr(kernel, name)) for name in ("_pool", "_vector_gradient", "_feature_gradient")}
    if type(kernel._pool).__name__ != "JITFunction":
        pytest.skip("needs kernels that are not interpreted: TRITON_INTERPRET was set for the whole process")
    for name, stand_in in kernels.items():
        monkeypatch.setattr(kernel, name, stand_in)
    return kernels


def launch_all(features: Tensor, vectors: Tensor, grad: Tensor) -> None:
    kernel: ModuleType = importlib.import_module("msrn.ops.kernels.triton")
    _, shift, total = kernel.attention_forward(features, vectors)
    kernel.attention_backward(grad, features, vectors, shift, total)


def tool(name: str) -> str:
    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    if not path.is_file():
        pytest.skip(f"needs {name} of NVIDIA, which this build of triton lacks")
    return str(path)


@pytest.mark.parametrize(
    ("shape", "layout", "dtype"),
    [
        ((2, 784, 84, 64), "channels first", torch.float32),
        ((2, 49, 84, 64), "channels first", torch.float32),  # rows that do not start at a multiple of 16
        ((2, 196, 24, 64), "channels last", torch.bfloat16),
    ],
)
def test_compiled_loops_keep_below_eight_instructions_an_exponential_and_nothing_spills(
    shape: tuple[int, int, int, int], layout: str, dtype: torch.dtype, ahead: dict[str, Ahead], tmp_path: Path
) -> None:
    tool("ptxas")
    features, vectors, grad = draw(*shape, layout=layout)
    launch_all(features.to(dtype), vectors, grad.to(dtype))
    for name, kernel in ahead.items():
        binary = tmp_path / f"{name}.cubin"
        binary.write_bytes(kernel.compiled().asm["cubin"])
        command = [tool("cuobjdump"), "-res-usage", "-sass", str(binary)]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert re.search(r"STACK:0 .*LOCAL:0 ", listing), name
        assert min(cost_of_loops(listing)) < 8, name


def cost_of_loops(listing: str) -> list[float]:
    """Instructions for each exponential in the innermost loops that make 32 of them a turn."""
    code = [(int(at, 16), text) for at, text in re.findall(r"/\*([0-9a-f]{4,})\*/ +(\S.*?);", listing)]
    costs = []
    for at, text in code:
        back = re.search(r"\bBRA\b.* 0x([0-9a-f]+)", text)
        if back and int(back[1], 16) < at:
            body = [inner for where, inner in code if int(back[1], 16) <= where <= at]
            if sum("MUFU.EX2" in inner for inner in body) == 32:
                costs.append(len(body) / 32)
    return costs


def test_the_smallest_sizes_compile(ahead: dict[str, Ahead]) -> None:
    tool("ptxas")
    launch_all(*(tensor.half() for tensor in draw(1, 1, 1, 1)))  # Triton takes each size of one for a constant
    for kernel in ahead.values():
        assert kernel.compiled().asm["ptx"]


def test_other_sizes_need_no_other_compilation(ahead: dict[str, Ahead]) -> None:
    launch_all(*draw(2, 196, 84, 64))
    launch_all(*draw(7, 49, 50, 64))
    for kernel in ahead.values():
        assert kernel.calls[0] == kernel.calls[1]
