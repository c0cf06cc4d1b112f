"""Faster variants: the fastest with the same probabilities is chosen, refusals are listed, the model is unchanged."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from msrn.bundle.read import Bundle, read_bundle
from msrn.cli.main import main
from msrn.config import Settings
from msrn.data.decode import open_image
from msrn.data.transforms import eval_transform
from msrn.inference import autotune as module
from msrn.inference import variants as variants_module
from msrn.inference.autotune import Measured, Optimization, optimize
from msrn.inference.predictor import Predictor
from msrn.inference.variants import Variant, computes_bfloat16, variants
from msrn.models.classifier import MultiLabelClassifier, build_without_weights
from msrn.models.heads.base import Head, HeadOutput, LabelInputs

IMAGES = torch.linspace(-1, 1, 3 * 3 * 8 * 8).reshape(3, 3, 8, 8)


class Fake(MultiLabelClassifier):
    """Two labels, the second out of reach. ``behave`` is run with whether the image is channels last and autocast."""

    def __init__(self, behave: Callable[[bool, bool], float]) -> None:
        super().__init__(nn.Identity(), Head())  # type: ignore[arg-type]
        self.behave = behave
        self.projection = nn.Linear(1, 1)  # something to cast

    def forward(self, image: Tensor) -> HeadOutput:
        channels_last = image.is_contiguous(memory_format=torch.channels_last)
        shift = self.behave(channels_last, torch.is_autocast_enabled("cpu"))
        mean = image.mean(dim=(1, 2, 3))
        return HeadOutput(torch.stack((mean, mean - 30 + shift), dim=1), {})


@pytest.fixture
def bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that computes in bfloat16, whichever the tests run on."""
    monkeypatch.setattr(variants_module, "computes_bfloat16", lambda device: True)


@pytest.fixture
def no_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(variants_module, "computes_bfloat16", lambda device: False)


@pytest.mark.usefixtures("no_bfloat16")
def test_the_fastest_variant_is_chosen_by_running_them() -> None:
    def slow_with_channels_last(channels_last: bool, cast: bool) -> float:
        time.sleep(0.02 if channels_last else 0.0)
        return 0.0

    found = optimize(Fake(slow_with_channels_last), IMAGES)
    assert found.variant.name == "channels first"
    assert [each.name for each in found.measured] == ["as loaded", "channels first"]
    assert found.speedup > 2
    assert 0.02 / 3 <= (found.measured[0].seconds or 0.0) < 0.02  # for one image of the three
    assert found.batch == 3


@pytest.mark.usefixtures("no_bfloat16")
@pytest.mark.parametrize(("share", "chosen"), [(0.98, "as loaded"), (0.96, "channels first")])
def test_the_network_as_loaded_wins_ties(monkeypatch: pytest.MonkeyPatch, share: float, chosen: str) -> None:
    monkeypatch.setattr(module, "_seconds", lambda candidates, image: [0.1, 0.1 * share])
    assert optimize(Fake(lambda channels_last, cast: 0.0), IMAGES).variant.name == chosen


@pytest.mark.usefixtures("no_bfloat16")
@pytest.mark.parametrize(
    ("shift", "refused"), [(1e-4, False), (3e-4, True), (-3e-4, True), (float("nan"), True), (float("inf"), True)]
)
def test_a_variant_that_changes_a_logit_too_much_is_refused_however_fast(
    monkeypatch: pytest.MonkeyPatch, shift: float, refused: bool
) -> None:
    # A probability of 1e-13 hardly moves: the change of the logit decides.
    monkeypatch.setattr(module, "_seconds", lambda candidates, image: [0.1, 0.01][: len(candidates)])
    found = optimize(Fake(lambda channels_last, cast: 0.0 if channels_last else shift), IMAGES)
    assert found.variant.name == ("as loaded" if refused else "channels first")
    other = found.measured[1]
    assert other.change == pytest.approx(abs(shift) / 4, rel=0.05, nan_ok=True)
    assert other.seconds == (None if refused else 0.01)
    assert ("refused: over 5e-05" in str(found)) == refused


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(("shift", "refused"), [(0.03, False), (0.05, True)])
def test_variants_in_bfloat16_have_a_bound_of_their_own(
    monkeypatch: pytest.MonkeyPatch, shift: float, refused: bool
) -> None:
    monkeypatch.setattr(module, "_seconds", lambda candidates, image: [1 / (1 + n) for n in range(len(candidates))])
    found = optimize(Fake(lambda channels_last, cast: shift if cast else 0.0), IMAGES)
    names = ["as loaded", "channels first", "channels last, bfloat16 after the backbone", "channels last, bfloat16"]
    assert [each.name for each in found.measured] == names
    assert found.variant.name == ("channels first" if refused else "channels last, bfloat16")
    assert [bool(each.refused) for each in found.measured] == [False, False, refused, refused]


@pytest.mark.usefixtures("no_bfloat16")
def test_a_variant_that_does_not_run_is_refused_with_its_reason() -> None:
    def only_channels_last(channels_last: bool, cast: bool) -> float:
        if not channels_last:
            raise RuntimeError("no such kernel\nfor this layout")
        return 0.0

    found = optimize(Fake(only_channels_last), IMAGES)
    assert found.variant.name == "as loaded"
    assert found.measured[1] == Measured("channels first", None, None, "it does not run (no such kernel)")
    assert "no such kernel" in str(found)


@pytest.mark.usefixtures("no_bfloat16")
def test_few_images_are_compared_in_sixteen_views_and_eight_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    monkeypatch.setattr(module, "_seconds", lambda candidates, image: seen.append(image) or [1.0] * len(candidates))
    for given, timed in ((1, 1), (3, 3), (20, 8)):
        images = torch.randn(given, 3, 8, 8)
        examples = module._examples(images)
        assert len(examples) == 16
        assert torch.equal(examples[: min(given, 16)], images[:16])
        distinct = {tuple(example.flatten().tolist()) for example in examples}
        assert len(distinct) == 16
        assert optimize(Fake(lambda channels_last, cast: 0.0), images).batch == timed
        assert torch.equal(seen[-1], images[:timed])


@pytest.fixture
def bundle(tiny_run: Path) -> Bundle:
    return read_bundle(tiny_run)


@pytest.fixture
def images(bundle: Bundle, scenes: Path) -> Tensor:
    """Twelve, preprocessed."""
    transform = eval_transform(bundle.preprocessing)
    return torch.stack([transform(open_image(path)) for path in sorted((scenes / "images" / "test").iterdir())])


@pytest.mark.usefixtures("bfloat16")
def test_variants_of_a_trained_network_agree_and_leave_it_alone(bundle: Bundle, images: Tensor) -> None:
    model = bundle.model
    before = {key: (value.clone(), value.stride()) for key, value in model.state_dict().items()}
    with torch.inference_mode():
        expected = model(images).logits.double()
    found = variants(model, images)
    assert [variant.name for variant in found] == [
        "as loaded",
        "15 batch norms fused, channels last",
        "15 batch norms fused, channels first",
        "15 batch norms fused, channels last, bfloat16 after the backbone",
        "15 batch norms fused, channels last, bfloat16",
    ]
    for variant in found:
        with torch.inference_mode():
            output = variant(images).logits
        assert output.dtype == torch.float32
        change = (output.double().sigmoid() - expected.sigmoid()).abs().max().item()
        assert change <= module.BOUNDS[variant.dtype], variant.name
        assert (change > 1e-6) == (variant.dtype is torch.bfloat16), variant.name  # it did compute with fewer bits
    after = model.state_dict()
    assert before.keys() == after.keys()
    for key, (value, stride) in before.items():
        assert torch.equal(after[key], value)
        assert after[key].stride() == stride


@pytest.mark.usefixtures("bfloat16")
def test_weights_are_converted_once_and_label_semantics_stay_in_float32(bundle: Bundle, images: Tensor) -> None:
    *_, rest, whole = variants(bundle.model, images)

    def dtypes(variant: Variant, part: str) -> set[torch.dtype]:
        return {
            tensor.dtype
            for name, child in variant.model.named_modules()
            if name.startswith(part) and isinstance(child, nn.Conv2d | nn.Linear)
            for tensor in child.parameters()
        }

    assert dtypes(rest, "backbone") == {torch.float32}
    assert dtypes(whole, "backbone") == {torch.bfloat16}
    for variant in (rest, whole):
        assert variant.model.head.output_layer.inner.weight.dtype == torch.float32
        assert dtypes(variant, "head.projections") == {torch.bfloat16}
        semantics = [value for name, value in variant.model.named_buffers() if name.startswith("head.semantics")]
        assert {tensor.dtype for tensor in semantics} == {torch.float32}


@pytest.mark.usefixtures("bfloat16")
@pytest.mark.parametrize(
    ("head", "layer", "count"),
    [
        ({"output_layer": "per_label"}, "head.output_layer", 5),
        ({"output_layer": "flatten"}, "head.output_layer.output", 5),
        ("average_pool", "head.output", 4),  # nothing is left to cast after its backbone
        ("max_pool", "head.output", 4),
        ("csra", "head", 4),  # no layer gives the logits: they are pooled from scores
        ({"name": "add_gcn", "width": 8}, "head", 4),
        ({"name": "query2label", "width": 16}, "head.output", 5),
        ({"name": "ml_decoder", "width": 16}, "head.output", 5),
    ],
    ids=str,
)
def test_the_layer_that_gives_the_logits_stays_in_float32(
    tiny: Callable[..., Settings], tmp_path: Path, head: str | dict[str, str], layer: str, count: int
) -> None:
    """In bfloat16 there are 128 numbers between 1 and 2: images would share ranks, and mAP would change."""
    inputs = LabelInputs(tuple(f"label {n}" for n in range(16)), torch.randn(16, 4), torch.eye(16))
    model = build_without_weights(tiny(tmp_path, model={"head": head}).model, inputs).eval()
    images = torch.randn(64, 3, 64, 64)
    *others, whole = variants(model, images)
    assert len(others) + 1 == count
    assert isinstance(whole.model.get_submodule(layer), variants_module._OutsideAutocast), layer
    with torch.inference_mode():
        logits = whole(images).logits
    assert not torch.equal(logits, logits.bfloat16().float())


def test_a_network_whose_semantics_are_not_precomputed_has_them_precomputed_in_the_copy(
    tiny_run: Path, images: Tensor
) -> None:
    model = read_bundle(tiny_run, precompute=False).model
    kind = type(model.head.semantics)
    with torch.inference_mode():
        expected = model(images).logits
        found = variants(model, images)[1](images).logits
    assert torch.allclose(found, expected, rtol=0, atol=1e-4)
    assert type(model.head.semantics) is kind


def test_an_optimized_predictor_chooses_once_and_stays_within_the_bounds(
    tiny_run: Path, scenes: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    folder = scenes / "images" / "test"
    plain, predictor = Predictor.load(tiny_run), Predictor.load(tiny_run, optimize=True)
    assert plain.optimization is predictor.optimization is None
    caplog.set_level(logging.INFO, "msrn")
    found = list(predictor.predict(folder, batch_size=5))
    assert len(caplog.records) == 1
    assert caplog.messages[0].startswith("chosen: ")
    chosen = predictor.optimization
    assert chosen is not None
    assert chosen.batch == 5
    for got, expected in zip(found, plain.predict(folder, batch_size=5), strict=True):
        assert got.source == expected.source
        assert dict(got.ranked) == pytest.approx(dict(expected.ranked), abs=0.02)
    assert [each.ranked for each in predictor.predict(folder, batch_size=5)] == [each.ranked for each in found]
    assert predictor.optimization is chosen


def test_nothing_is_measured_before_the_first_image(tiny_run: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(tiny_run, optimize=True)
    assert all(prediction.error for prediction in predictor.predict([tmp_path / "gone.jpg"]))
    assert predictor.probabilities(torch.zeros(0, 3, 64, 64)).shape == (0, 16)
    assert predictor.optimization is None


def test_threads_that_come_together_measure_once(
    tiny_run: Path, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[Optimization] = []
    running = threading.Event()

    def slow(model: MultiLabelClassifier, image: Tensor) -> Optimization:
        running.set()
        time.sleep(0.2)
        variant = Variant("as loaded", model, layout=torch.channels_last, dtype=torch.float32)
        measured.append(Optimization(variant, (Measured("as loaded", 0.0, 1.0),), len(image)))
        return measured[-1]

    monkeypatch.setattr("msrn.inference.predictor.optimize", slow)
    predictor = Predictor.load(tiny_run, optimize=True)
    first = threading.Thread(target=predictor.probabilities, args=(images,))
    first.start()
    assert running.wait(10)
    predictor.probabilities(images[:2])
    first.join()
    assert [each.batch for each in measured] == [12]
    assert predictor.optimization is measured[0]


def test_the_command_optimizes_on_request(
    tiny_run: Path,
    scenes: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.0)
    caplog.set_level(logging.INFO, "msrn")
    command = ["predict", str(tiny_run), str(scenes / "images" / "test")]
    assert main(command) == 0
    assert not caplog.records
    rows = capsys.readouterr().out.splitlines()
    assert main([*command, "--optimize"]) == 0
    assert [message.splitlines()[0].split(":")[0] for message in caplog.messages] == ["chosen"]
    assert len(capsys.readouterr().out.splitlines()) == len(rows) == 12


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"bf16": True}, True), ({"avx2": True}, False)],
)
def test_bfloat16_is_tried_where_torch_reports_that_the_processor_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert computes_bfloat16(torch.device("cpu")) is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert computes_bfloat16(torch.device("cpu")) is False


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_variant_is_chosen_on_a_gpu(tiny_run: Path, images: Tensor) -> None:
    plain, predictor = Predictor.load(tiny_run, device="cuda"), Predictor.load(tiny_run, device="cuda", optimize=True)
    change = abs(predictor.probabilities(images) - plain.probabilities(images)).max()
    assert change <= module.BOUNDS[torch.bfloat16]
    assert predictor.optimization is not None
    assert predictor.optimization.batch == 12
