"""Query2Label against a transcription of the paper in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformer_by_loops import attend, layer_norm, run_block

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.query2label import Options, Query2Label, sine_positions

LABELS = LabelInputs(("cat", "dog", "sofa"))


def head(**options: object) -> Query2Label:
    """With layer norms that do something, in double precision."""
    torch.manual_seed(0)
    made = Query2Label(Options(width=8, heads=2, **options), channels=(4, 5), labels=LABELS).double().eval()
    for module in made.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return made


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.zeros(2, 4, 6, 8), torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)]


def positions_by_loops(height: int, width: int, channels: int) -> np.ndarray:
    """DETR's encoding: sines of the row in the first half, of the column in the second."""
    table = np.zeros((height * width, channels))
    half = channels // 2
    for y in range(height):
        for x in range(width):
            for start, place, count in ((0, y + 1, height), (half, x + 1, width)):
                for i in range(half):
                    angle = place / count * 2 * math.pi / 10000 ** (2 * (i // 2) / half)
                    table[y * width + x, start + i] = math.cos(angle) if i % 2 else math.sin(angle)
    return table


def by_loops(q2l: Query2Label, image: np.ndarray, *, self_attention: bool) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(L,)`` and the last layer's attention ``(L, N)`` for features ``(C, H, W)``."""
    weight, bias = q2l.projection.weight.detach().numpy()[:, :, 0, 0], q2l.projection.bias.detach().numpy()
    features = np.array([weight @ image[:, y, x] + bias for y in range(image.shape[1]) for x in range(image.shape[2])])
    places = positions_by_loops(*image.shape[1:], features.shape[1])
    for layer in q2l.encoder:
        features, _ = run_block(features, features + places, features + places, features, layer)
    queries = q2l.queries.vectors.detach().numpy()
    between = [q2l.queries.between_labels, *q2l.between_layers]
    for layer, first in zip(q2l.decoder, between, strict=True):
        if self_attention:
            queries = layer_norm(queries + attend(queries, queries, queries, first.attention)[0], first.norm)
        queries, weights = run_block(queries, queries, features + places, features, layer)
    output = q2l.output
    logits = (queries * output.weight.detach().numpy()).sum(axis=1) + output.bias.detach().numpy()
    return logits, weights


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"self_attention": False},
        {"encoder_layers": 0, "decoder_layers": 1},
        {"encoder_layers": 2, "hidden_ratio": 1},
    ],
    ids=str,
)
@torch.no_grad()
def test_logits_and_attention_are_those_of_the_paper(options: dict[str, object]) -> None:
    q2l = head(**options)
    logits, (attention,) = q2l(maps()).logits.numpy(), q2l.attention(maps())
    for number, image in enumerate(maps()[-1].numpy()):
        expected, weights = by_loops(q2l, image, self_attention=bool(options.get("self_attention", True)))
        np.testing.assert_allclose(logits[number], expected, rtol=1e-9)
        np.testing.assert_allclose(attention[number].flatten(1).numpy(), weights, rtol=1e-5)  # of float32 scores


def test_the_positions_are_detrs() -> None:
    found = sine_positions(3, 5, width=12, like=torch.zeros((), dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), positions_by_loops(3, 5, 12), atol=1e-12)


def test_a_mirrored_map_gives_other_logits_because_its_positions_are_encoded() -> None:
    q2l, features = head(), maps()[-1]
    assert not torch.allclose(q2l([features]).logits, q2l([features.flip(3)]).logits)


def test_the_network_of_the_paper_over_resnet101_has_its_number_of_weights() -> None:
    """Per attention 4 D (D + 1), per block also the feed-forward layer and two norms; D = 2048, F = 8192."""
    with torch.device("meta"):
        labels = LabelInputs(tuple(str(n) for n in range(80)))
        q2l = Query2Label(Options(), channels=(512, 1024, 2048), labels=labels)
    d, f, c = 2048, 8192, 2048
    attention, block = 4 * d * (d + 1), 4 * d * (d + 1) + d * (2 * f + 1) + f + 4 * d
    expected = d * (c + 1) + 3 * block + 2 * (attention + 2 * d) + 80 * d + 80 * (d + 1)
    assert sum(weight.numel() for weight in q2l.parameters()) == expected == 189_177_936


@torch.no_grad()
def test_precomputed_queries_need_no_self_attention_any_more() -> None:
    q2l = head()
    q2l.precompute()
    names = [name for name, _ in q2l.named_parameters()]
    assert not [name for name in names if name.startswith(("queries", "decoder.0.attention.query"))]
    assert [name for name in names if name.startswith("between_layers.0")]


@pytest.mark.parametrize(("width", "heads", "fitting"), [(10, 2, 8), (12, 8, 8), (3, 1, 4), (36, 8, 32)])
def test_a_width_that_does_not_divide_is_refused_with_one_that_does(width: int, heads: int, fitting: int) -> None:
    with pytest.raises(ConfigError, match="divisible by 4 and by the number of heads") as caught:
        Query2Label(Options(width=width, heads=heads), channels=(5,), labels=LABELS)
    assert caught.value.hint == f"set --model.head.width {fitting}"
    Query2Label(Options(width=fitting, heads=heads), channels=(5,), labels=LABELS)


@pytest.mark.parametrize(
    ("option", "value"), [("decoder_layers", 0), ("encoder_layers", -1), ("dropout", 1.0), ("heads", 0)]
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"model\.head\.{option}"):
        load_settings({"model": {"head": {"name": "query2label", option: value}}})
