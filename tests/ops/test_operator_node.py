"""The operator as one node: for autograd, autocast, torch.compile, export and ONNX runtimes."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from msrn.ops.semantic_attention import semantic_attention, semantic_attention_reference

NODE = torch.ops.msrn.semantic_attention.default


def inputs(dtype: torch.dtype = torch.float32, *, channels_last: bool = False) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(2, 8, 53, generator=generator).transpose(1, 2)  # as a convolution leaves them
    features = features.contiguous() if channels_last else features
    return features.to(dtype).requires_grad_(), torch.randn(5, 8, generator=generator).requires_grad_()


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # the check's own copies of the inputs
@pytest.mark.parametrize("form", ["auto", "chunked"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_registration_passes_the_checks_of_torch(dtype: torch.dtype, channels_last: bool, form: str) -> None:
    torch.library.opcheck(NODE, (*inputs(dtype, channels_last=channels_last), form))
    features, vectors = (value.detach() for value in inputs(dtype, channels_last=channels_last))
    pooled, shift, total = NODE(features, vectors, form)
    torch.library.opcheck(
        torch.ops.msrn.semantic_attention_backward.default, (pooled, features, vectors, shift, total, form)
    )


def test_a_compiled_graph_holds_one_node_and_gives_the_same_numbers_and_gradients() -> None:
    seen: list[object] = []

    def backend(graph: torch.fx.GraphModule, _example: object) -> object:
        seen.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    def pool(features: Tensor, vectors: Tensor) -> Tensor:
        return semantic_attention(2 * features, vectors)

    compiled = torch.compile(pool, backend=backend, fullgraph=True)
    features, vectors = inputs()
    assert torch.equal(compiled(features, vectors), pool(features, vectors))
    assert sum("msrn" in str(target) for target in seen) == 1
    through_autograd = torch.compile(pool, backend="aot_eager", fullgraph=True)
    for ours, theirs in zip(
        torch.autograd.grad(through_autograd(features, vectors).square().sum(), (features, vectors)),
        torch.autograd.grad(pool(features, vectors).square().sum(), (features, vectors)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_shapes_and_types_are_known_without_computing() -> None:
    features, vectors = (value.detach().to("meta") for value in inputs(torch.bfloat16))
    pooled = semantic_attention(features, vectors)
    assert (pooled.shape, pooled.dtype, pooled.device.type) == ((2, 5, 8), torch.bfloat16, "meta")


@pytest.mark.parametrize("form", ["reference", "chunked", "numba"])
def test_every_form_that_runs_here_agrees(form: str) -> None:
    features, vectors = (value.detach() for value in inputs())
    expected = semantic_attention_reference(features.double(), vectors.double())
    got = semantic_attention(features, vectors, form=form)  # type: ignore[arg-type]
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_form_that_does_not_serve_the_inputs_reports_what_it_got() -> None:
    features, vectors = inputs()
    with pytest.raises(TypeError, match=r"on a GPU, got features of .* on cpu"):
        semantic_attention(features, vectors, form="triton")


def test_autocast_casts_nothing_on_the_way_in() -> None:
    features, vectors = (value.detach() for value in inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(semantic_attention(features, vectors), semantic_attention(features, vectors, form="numba"))
        assert semantic_attention(features.bfloat16(), vectors).dtype == torch.bfloat16


def test_the_flop_counter_sees_both_directions() -> None:
    features, vectors = inputs()
    with FlopCounterMode(display=False) as forward:
        pooled = semantic_attention(features, vectors)
    with FlopCounterMode(display=False) as backward:
        pooled.sum().backward()
    exponentials = 2 * 53 * 5 * 8
    assert forward.get_total_flops() == 6 * exponentials
    assert backward.get_total_flops() == 11 * exponentials


class Pool(nn.Module):
    """A feature map, pooled by fixed vectors."""

    def __init__(self, count: int = 7, width: int = 16) -> None:
        super().__init__()
        self.register_buffer("vectors", 3 * torch.randn(count, width, generator=torch.Generator().manual_seed(1)))

    def forward(self, maps: Tensor) -> Tensor:
        return semantic_attention(maps.flatten(2).transpose(1, 2), self.vectors).tanh()


def test_an_exported_program_holds_one_node_and_takes_any_size() -> None:
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    maps = torch.randn(2, 16, 5, 6)
    program = torch.export.export(Pool(), (maps,), dynamic_shapes=(sizes,))
    assert [node.target for node in program.graph.nodes].count(NODE) == 1
    larger = torch.randn(3, 16, 9, 4)
    torch.testing.assert_close(program.module()(larger), Pool()(larger))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # the exporter's own
def test_onnx_runs_it_without_the_product_at_any_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra 'export'")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra 'export'")
    from msrn.ops.onnx import translation_table

    caplog.set_level(logging.ERROR)
    program = torch.onnx.export(
        Pool().eval(),
        (torch.randn(2, 16, 5, 6),),
        dynamo=True,
        custom_translation_table=translation_table(),
        dynamic_shapes=({0: "images", 2: "height", 3: "width"},),
        verbose=False,
    )
    assert program is not None
    program.save(tmp_path / "pool.onnx")
    onnx.checker.check_model(str(tmp_path / "pool.onnx"), full_check=True)
    model = onnx.load(tmp_path / "pool.onnx")
    assert {node.domain for node in model.graph.node} == {""}, "only operators of the standard"
    (scan,) = [node for node in model.graph.node if node.op_type == "Scan"]
    body = next(attribute.g for attribute in scan.attribute if attribute.name == "body")
    assert {node.op_type for node in body.node} >= {"Exp", "ReduceSum"}, "exponentials are made one vector at a time"
    assert "Exp" not in {node.op_type for node in model.graph.node}
    session = runtime.InferenceSession(tmp_path / "pool.onnx", providers=["CPUExecutionProvider"])
    for size in [(2, 16, 5, 6), (1, 16, 1, 1), (3, 16, 9, 14)]:
        maps = 10 * torch.randn(size)
        (ours,) = session.run(None, {session.get_inputs()[0].name: maps.numpy()})
        np.testing.assert_allclose(ours, Pool()(maps).numpy(), rtol=1e-5, atol=1e-5)
