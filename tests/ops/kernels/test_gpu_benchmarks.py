"""The benchmarks of the GPU kernel, as far as a machine without one can try them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from attention_inputs import draw
from torch import Tensor

from msrn.ops.semantic_attention import semantic_attention

triton = pytest.importorskip("triton", reason="needs triton, which this environment lacks")

Results = tuple[Tensor, Tensor, Tensor]
Run = Callable[..., Results]

# Of the largest value: sums of float32, with an exponential good to 2e-7.
FORWARD, GRADIENT = 1e-6, 1e-5


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))


@pytest.fixture
def benchmark(benchmarks: None) -> ModuleType:
    return importlib.import_module("gpu_operator")


@pytest.mark.parametrize("name", ["gpu_operator", "gpu_training"])
def test_the_benchmark_says_what_it_needs_where_there_is_no_gpu(
    name: str, benchmarks: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main(["--out", str(tmp_path / "results")])
    assert stopped.value.code == 2
    assert "torch.cuda.is_available()" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_profiler_knows_the_operator_by_the_names_that_the_benchmark_looks_for(benchmarks: None) -> None:
    features, vectors, grad = draw(2, 21, 3, 10)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], acc_events=True) as profile:
        semantic_attention(features.requires_grad_(), vectors.requires_grad_()).backward(grad)
    assert {row.key for row in profile.key_averages()} >= importlib.import_module("gpu_training").NODES


def test_the_floor_is_the_slower_of_bytes_and_exponentials(benchmark: ModuleType) -> None:
    sizes = {"images": 2, "positions": 100, "count": 5, "width": 10, "item_bytes": 4}
    bytes_only, exponentials_only = benchmark.Ceilings(1e3, 1e30), benchmark.Ceilings(1e30, 1e3)
    # 2,000 features and 100 results of 4 bytes; 10,000 exponentials; in milliseconds at 1,000 a second
    assert bytes_only.floor_ms(**sizes, passes="forward") == pytest.approx(8_400)
    assert exponentials_only.floor_ms(**sizes, passes="forward") == pytest.approx(10_000)
    # features read twice, their gradient written; results written, their gradient read; exponentials made twice
    assert bytes_only.floor_ms(**sizes, passes="forward + backward") == pytest.approx(24_800)
    assert exponentials_only.floor_ms(**sizes, passes="forward + backward") == pytest.approx(20_000)
