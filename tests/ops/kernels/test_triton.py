"""The fused GPU kernel against the definition in float64: interpreted, compiled ahead, and on a GPU if there is one.

Triton decides when it is imported whether kernels are interpreted, for the whole process, and torch imports it when
it likes. So the interpreter runs in one process of its own, started anew for this file: the variable that asks for it
is set there and nowhere else, and no order of tests, and nothing imported before, changes what is tested. In this
process the same kernels are compiled for a GPU that need not be there.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference

triton = pytest.importorskip("triton", reason="needs triton, which this environment lacks")

Results = tuple[Tensor, Tensor, Tensor]
Run = Callable[..., Results]

# Of the largest value: sums of float32, with an exponential good to 2e-7.
FORWARD, GRADIENT = 1e-6, 1e-5
SHAPES = {  # B, N, K, D
    "nothing divides": (2, 53, 11, 13),
    "everything divides": (1, 64, 8, 16),
    "one vector": (2, 49, 1, 8),
    "one position": (2, 1, 5, 8),
    "one channel": (1, 7, 3, 1),
    "one of each": (1, 1, 1, 1),
}


def draw(b: int, n: int, k: int, d: int, *, scale: float = 1.0, layout: str = "channels first") -> Results:
    """Features as a convolution leaves them, vectors, and a gradient for the output."""
    generator = torch.Generator().manual_seed(b + 10 * n + 100 * k + d)
    features = torch.randn(b, d, n, generator=generator).transpose(1, 2) * scale**0.5
    if layout == "channels last":
        features = features.contiguous()
    return features, torch.randn(k, d, generator=generator) * scale**0.5, torch.randn(b, k, d, generator=generator)


def oracle(features: Tensor, vectors: Tensor, grad: Tensor) -> Results:
    inputs = [features.detach().double().requires_grad_(), vectors.detach().double().requires_grad_()]
    pooled = semantic_attention_reference(*inputs)
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, grad.double())


def error(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference, in units of the largest true value."""
    assert ours.shape == theirs.shape
    return ((ours.double() - theirs).abs().max() / theirs.abs().max().clamp_min(1e-30)).item()


# ---- interpreted, in a process of its own


# As text, because a function of this module could run there only after this module was imported, and triton with it.
ASK_FOR_IT = "import os; os.environ['TRITON_INTERPRET'] = '1'"


def interpret(features: Tensor, vectors: Tensor, grad: Tensor, enough_programs: int | None = None) -> Results:
    """Value and gradients, in the process that interprets."""
    kernel = importlib.import_module("msrn.ops.kernels.triton")
    assert type(kernel._pool).__name__ == "InterpretedFunction"
    kept = kernel.ENOUGH_PROGRAMS
    kernel.ENOUGH_PROGRAMS = enough_programs or kept
    try:
        pooled, shift, total = kernel.attention_forward(features, vectors)
        assert shift.dtype == total.dtype == torch.float32
        assert shift.shape == total.shape == (features.shape[0], features.shape[2], vectors.shape[0])
        return pooled, *kernel.attention_backward(grad, features, vectors, shift, total)
    finally:
        kernel.ENOUGH_PROGRAMS = kept


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Run]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=exec, initargs=(ASK_FOR_IT,)) as pool:
        yield lambda *arguments: pool.submit(interpret, *arguments).result(timeout=120)


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_value_and_gradients_equal_the_definition(
    shape: tuple[int, int, int, int], layout: str, interpreted: Run
) -> None:
    inputs = draw(*shape, layout=layout)
    (value, grad_x, grad_q), (true_value, true_grad_x, true_grad_q) = interpreted(*inputs), oracle(*inputs)
    assert error(value, true_value) < FORWARD
    assert error(grad_x, true_grad_x) < GRADIENT
    if shape[1] > 1:
        assert error(grad_q, true_grad_q) < GRADIENT
    else:
        assert grad_q.abs().max() == 0  # one position leaves nothing to choose


@pytest.mark.parametrize("scale", [1e-4, 30.0, 900.0])
def test_value_and_gradients_hold_for_products_from_tiny_to_ten_thousand(scale: float, interpreted: Run) -> None:
    inputs = draw(1, 98, 9, 16, scale=scale)
    largest = inputs[0].abs().max()
    ours, theirs = interpreted(*inputs), oracle(*inputs)
    assert (ours[0] - theirs[0]).abs().max() < FORWARD * largest  # a mean of features has their size
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_no_product_is_too_large(interpreted: Run) -> None:
    features, vectors, grad = draw(2, 49, 6, 8)
    pooled, grad_features, grad_vectors = interpreted(features * 1e10, vectors * 1e15, grad)
    extreme = torch.where(vectors >= 0, features.amax(dim=1)[:, None], features.amin(dim=1)[:, None])
    assert torch.equal(pooled, extreme * 1e10)
    at_the_extreme = (features[:, None] == extreme[:, :, None]).double()  # (B, K, N, D): a maximum has one place
    assert error(grad_features, torch.einsum("bknd,bkd->bnd", at_the_extreme, grad.double())) < GRADIENT
    assert grad_vectors.abs().max() == 0


def test_precision_does_not_suffer_from_a_large_mean(interpreted: Run) -> None:
    features, vectors, grad = draw(1, 49, 5, 8)
    inputs = (features + 1000, vectors, grad)
    ours, theirs = interpreted(*inputs), oracle(*inputs)
    assert error(ours[0], theirs[0]) < FORWARD
    assert error(ours[1], theirs[1]) < GRADIENT
    assert error(ours[2], theirs[2]) < GRADIENT


def test_equal_positions_are_returned_exactly_and_pull_at_no_vector(interpreted: Run) -> None:
    features = torch.tensor([[0.1, -3.0]]).expand(2, 37, 2)  # positions with a stride of zero
    value, grad_x, grad_q = interpreted(features, draw(2, 1, 4, 2)[1], torch.ones(2, 4, 2))
    assert torch.equal(value, features[:, :4])
    assert grad_q.abs().max() == 0
    torch.testing.assert_close(grad_x, torch.full_like(grad_x, 4 / 37), rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_half_precision_rounds_only_inputs_and_results(dtype: torch.dtype, layout: str, interpreted: Run) -> None:
    inputs = [tensor.to(dtype) for tensor in draw(1, 50, 9, 16, layout=layout)]
    for ours, theirs in zip(interpreted(*inputs), oracle(*inputs), strict=True):
        assert ours.dtype == dtype
        step, largest = torch.finfo(dtype).eps, theirs.abs().max().item()
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=1e-6 * largest)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_each_gradient_has_the_dtype_and_layout_of_its_input(dtype: torch.dtype, interpreted: Run) -> None:
    features, vectors, grad = draw(2, 21, 3, 10)
    strided = torch.stack((features, features), dim=-1)[..., 0]
    vectors = vectors.to(dtype).T.contiguous().T
    value, grad_x, grad_q = interpreted(strided, vectors, grad)
    for ours, theirs in zip((value, grad_x, grad_q), oracle(strided, vectors, grad), strict=True):
        step = max(GRADIENT, torch.finfo(ours.dtype).eps)
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=1e-6 * theirs.abs().max().item())
    assert (value.dtype, grad_x.dtype, grad_q.dtype) == (torch.float32, torch.float32, dtype)
    assert value.is_contiguous()
    assert grad_x.stride() == torch.empty_like(strided).stride()
    assert grad_q.stride() == torch.empty_like(vectors).stride()


def test_a_broadcast_gradient_is_accepted(interpreted: Run) -> None:
    features, vectors, _ = draw(2, 20, 3, 4)
    ones = torch.ones(2, 3, 4)
    expected = interpreted(features, vectors, ones)
    for ours, theirs in zip(interpreted(features, vectors, ones[:1, :1, :1].expand(2, 3, 4)), expected, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("b", "k", "d"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty_sizes_give_empty_results_and_zero_gradients(b: int, k: int, d: int, interpreted: Run) -> None:
    features, vectors = torch.ones(b, 5, d), torch.ones(k, d)
    value, grad_x, grad_q = interpreted(features, vectors, torch.ones(b, k, d))
    assert value.shape == (b, k, d)
    assert torch.equal(grad_x, torch.zeros_like(features))
    assert torch.equal(grad_q, torch.zeros_like(vectors))


@pytest.mark.parametrize("position", [0, 17, 48])
def test_nan_shows_in_its_image_and_channel_and_nowhere_else(position: int, interpreted: Run) -> None:
    features, vectors, grad = draw(2, 49, 5, 6)
    clean = interpreted(features, vectors, grad)
    features[1, position, 4] = float("nan")
    value, grad_x, grad_q = interpreted(features, vectors, grad)
    for ours, before, place in (
        (value, clean[0], (1, slice(None), 4)),
        (grad_x, clean[1], (1, slice(None), 4)),
        (grad_q, clean[2], (slice(None), 4)),
    ):
        expected = torch.zeros_like(ours, dtype=torch.bool)
        expected[place] = True
        assert torch.equal(ours.isnan(), expected)
        assert torch.equal(ours[~expected], before[~expected])


def test_the_same_bits_come_again_whatever_the_split_of_the_work(interpreted: Run) -> None:
    inputs = draw(2, 21, 19, 8)
    first = interpreted(*inputs)
    for again in (interpreted(*inputs), interpreted(*inputs, 1), interpreted(*inputs, 8)):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, first, strict=True))
    alone = interpreted(*(inputs[0][1:], inputs[1], inputs[2][1:]))
    assert torch.equal(alone[0], first[0][1:])
    assert torch.equal(alone[1], first[1][1:])


# ---- compiled, for a GPU that need not be there


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


# ---- on a GPU


def on_gpu(test: Callable[..., None]) -> Callable[..., None]:
    without = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    return pytest.mark.gpu(without(test))


def run_on_gpu(features: Tensor, vectors: Tensor, grad: Tensor) -> Results:
    """Through the operator, as a model would."""
    inputs = [features.cuda().requires_grad_(), vectors.cuda().requires_grad_()]
    pooled = semantic_attention(*inputs, form="triton")
    return pooled.detach(), *torch.autograd.grad(pooled, inputs, grad.cuda().to(pooled.dtype))


@on_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
@pytest.mark.parametrize("shape", [(2, 784, 84, 512), (3, 196, 24, 512), (2, 49, 84, 512), (1, 3137, 7, 77)])
def test_gpu_value_and_gradients_equal_the_definition(
    shape: tuple[int, int, int, int], layout: str, dtype: torch.dtype
) -> None:
    features, vectors, grad = draw(*shape, layout=layout)
    inputs = (features.to(dtype), vectors, grad.to(dtype))
    step = 0 if dtype == torch.float32 else torch.finfo(dtype).eps
    for ours, theirs, bound in zip(
        run_on_gpu(*inputs), oracle(*(t.cuda() for t in inputs)), (FORWARD, GRADIENT, GRADIENT), strict=True
    ):
        torch.testing.assert_close(ours.double(), theirs, rtol=step, atol=bound * theirs.abs().max().item())


@on_gpu
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gpu_serves_the_shapes_that_the_interpreter_served(shape: tuple[int, int, int, int]) -> None:
    inputs = draw(*shape)
    for ours, theirs in zip(run_on_gpu(*inputs), oracle(*inputs), strict=True):
        torch.testing.assert_close(
            ours.double().cpu(), theirs, rtol=0, atol=GRADIENT * max(1e-3, theirs.abs().max().item())
        )


@on_gpu
def test_gpu_gives_the_same_bits_each_time() -> None:
    inputs = draw(16, 784, 84, 512)
    first = run_on_gpu(*inputs)
    for _ in range(3):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(run_on_gpu(*inputs), first, strict=True))


@on_gpu
def test_gpu_keeps_nan_in_its_image_and_channel() -> None:
    features, vectors, grad = draw(2, 196, 24, 64)
    features[1, 17, 4] = float("nan")
    value, grad_x, grad_q = run_on_gpu(features, vectors, grad)
    assert value[1, :, 4].isnan().all()
    assert value.isnan().sum() == 24
    assert grad_x[1, :, 4].isnan().all()
    assert grad_x.isnan().sum() == 196
    assert grad_q[:, 4].isnan().all()
    assert grad_q.isnan().sum() == 24


@on_gpu
@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_gpu_reaches_beyond_two_thousand_million_features(layout: str) -> None:
    shape = (2, 300, 3_600_000) if layout == "channels first" else (2, 3_600_000, 300)  # 2.16e9
    if torch.cuda.get_device_properties(0).total_memory < 24 * 2**30:
        pytest.skip("needs a GPU with 24 GiB")
    features = torch.randn(shape, device="cuda", dtype=torch.bfloat16)
    features = features.transpose(1, 2) if layout == "channels first" else features
    vectors, grad = torch.randn(1, 300, device="cuda"), torch.ones(2, 1, 300, device="cuda", dtype=torch.bfloat16)
    kernel = importlib.import_module("msrn.ops.kernels.triton")
    results = []
    for part in (slice(None), slice(1, 2)):
        pooled, shift, total = kernel.attention_forward(features[part], vectors)
        results.append(
            (pooled[-1], kernel.attention_backward(grad[part], features[part], vectors, shift, total)[0][-1])
        )
    for ours, alone in zip(*results, strict=True):
        assert torch.equal(ours, alone)
        assert ours.abs().max() > 0


# ---- its benchmark


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "gpu_operator.py"
    spec = importlib.util.spec_from_file_location("gpu_operator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_operator"] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_says_what_it_needs_where_there_is_no_gpu(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(["--out", str(tmp_path / "results")])
    assert stopped.value.code == 2
    assert "torch.cuda.is_available()" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_floor_is_the_slower_of_bytes_and_exponentials(benchmark: ModuleType) -> None:
    sizes = {"images": 2, "positions": 100, "count": 5, "width": 10, "item_bytes": 4}
    bytes_only, exponentials_only = benchmark.Ceilings(1e3, 1e30), benchmark.Ceilings(1e30, 1e3)
    # 2,000 features and 100 results of 4 bytes; 10,000 exponentials; in milliseconds at 1,000 a second
    assert bytes_only.floor_ms(**sizes, passes="forward") == pytest.approx(8_400)
    assert exponentials_only.floor_ms(**sizes, passes="forward") == pytest.approx(10_000)
    # features read twice, their gradient written; results written, their gradient read; exponentials made twice
    assert bytes_only.floor_ms(**sizes, passes="forward + backward") == pytest.approx(24_800)
    assert exponentials_only.floor_ms(**sizes, passes="forward + backward") == pytest.approx(20_000)
