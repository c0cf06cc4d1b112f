"""ML-Decoder against a transcription of the paper in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformer_by_loops import layer_norm, linear, run_block

from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.models.heads.base import LabelInputs
from msrn.models.heads.ml_decoder import MLDecoder, Options


def label_inputs(count: int, width: int = 6) -> LabelInputs:
    vectors = torch.randn(count, width, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    return LabelInputs(tuple(str(n) for n in range(count)), vectors)


def head(count: int = 7, **options: object) -> MLDecoder:
    """With layer norms that do something, in double precision."""
    torch.manual_seed(0)
    small = {"width": 8, "heads": 2, "hidden": 5, **options}
    made = MLDecoder(Options(**small), channels=(4, 5), labels=label_inputs(count)).double().eval()
    for module in made.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return made


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.zeros(2, 4, 6, 8), torch.randn(2, 5, 3, 4, generator=generator, dtype=torch.float64)]


def by_loops(decoder: MLDecoder, image: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits ``(L,)`` and attention ``(L, N)`` for features ``(C, H, W)``."""
    weight, bias = decoder.projection.weight.detach().numpy()[:, :, 0, 0], decoder.projection.bias.detach().numpy()
    places = [(y, x) for y in range(image.shape[1]) for x in range(image.shape[2])]
    features = np.array([np.maximum(weight @ image[:, y, x] + bias, 0) for y, x in places])
    words = hasattr(decoder.queries, "embeddings")
    queries = (
        linear(decoder.queries.embeddings.numpy(), decoder.queries.projection)
        if words
        else decoder.queries.vectors.numpy()
    )
    queries = layer_norm(queries, decoder.queries.norm)
    vectors, weights = run_block(queries, queries, features, features, decoder.decoder)
    w, b = decoder.output.weight.detach().numpy(), decoder.output.bias.detach().numpy()
    if words:
        return np.array([float(w[0] @ vector) + b[0] for vector in vectors]), weights
    size = math.ceil(count / len(queries))
    group_of = [label // size for label in range(count)]
    logits = [vectors[group_of[i]] @ w[group_of[i], i % size] + b[i] for i in range(count)]
    return np.array(logits), np.array([weights[group] for group in group_of])


@pytest.mark.parametrize("options", [{}, {"groups": 1}, {"groups": 3}, {"groups": 6}, {"queries": "words"}], ids=str)
@torch.no_grad()
def test_logits_and_attention_are_those_of_the_paper(options: dict[str, object]) -> None:
    decoder = head(**options)
    logits, (attention,) = decoder(maps()).logits.numpy(), decoder.attention(maps())
    for number, image in enumerate(maps()[-1].numpy()):
        expected, weights = by_loops(decoder, image, 7)
        np.testing.assert_allclose(logits[number], expected, rtol=1e-9)
        np.testing.assert_allclose(attention[number].flatten(1).numpy(), weights, rtol=1e-5)  # of float32 scores


@pytest.mark.parametrize(
    ("labels", "groups", "queries"), [(80, 0, 80), (250, 0, 84), (80, 20, 20), (80, 60, 40), (7, 7, 7)]
)
def test_no_group_is_empty(labels: int, groups: int, queries: int) -> None:
    """250 labels in at most 100 groups are 3 to a group; 80 in at most 60 are 2."""
    with torch.device("meta"):
        decoder = MLDecoder(Options(groups=groups), channels=(5,), labels=label_inputs(labels))
    assert len(decoder.queries.vectors) == queries
    size = math.ceil(labels / (groups or min(labels, 100)))
    assert decoder.output.weight.shape == (queries, size, 768)
    assert (queries - 1) * size < labels <= queries * size


@pytest.mark.parametrize(
    ("options", "expected"), [({}, 7_150_672), ({"groups": 20}, 7_150_672), ({"queries": "words"}, 7_321_089)]
)
def test_the_head_has_its_number_of_weights_on_coco(options: dict[str, object], expected: int) -> None:
    d, f, c, e = 768, 2048, 2048, 300
    with torch.device("meta"):
        decoder = MLDecoder(Options(**options), channels=(512, 1024, c), labels=label_inputs(80, width=e))
    common = d * (c + 1) + 4 * d * (d + 1) + d * (2 * f + 1) + f + 6 * d
    assert common + (d * (e + 1) + d + 1 if options.get("queries") == "words" else 80 * d + 80) == expected
    assert sum(weight.numel() for weight in decoder.parameters()) == expected


def test_fixed_queries_are_not_trained_and_are_kept_with_the_weights() -> None:
    decoder = head()
    assert "queries.vectors" in decoder.state_dict()
    assert "queries.vectors" not in dict(decoder.named_parameters())


@torch.no_grad()
def test_with_words_the_same_weights_score_other_labels_by_their_embeddings() -> None:
    """Labels 0 to 6 in one head; in the other, three labels of which the first has the embedding of label 4."""
    trained = head(queries="words")
    vectors = torch.cat(
        (label_inputs(7).embeddings[4:5], torch.randn(2, 6, generator=torch.Generator().manual_seed(9)))
    )
    options = Options(queries="words", width=8, heads=2, hidden=5)
    other = MLDecoder(options, channels=(4, 5), labels=LabelInputs(("a", "b", "c"), vectors)).double().eval()
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(other(maps()).logits[:, 0], trained(maps()).logits[:, 4])


@torch.no_grad()
def test_precomputed_queries_leave_no_weight_of_theirs() -> None:
    for options in ({}, {"queries": "words"}):
        decoder = head(**options)
        decoder.precompute()
        names = [name for name, _ in decoder.named_parameters()]
        assert not [name for name in names if name.startswith(("queries", "decoder.attention.query"))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, r"width \(10\) must be divisible by heads \(8\)"),
        ({"groups": 4, "queries": "words"}, "groups goes with fixed queries"),
        ({"queries": "sentences"}, r"model\.head\.queries"),
        ({"groups": -1}, r"model\.head\.groups"),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings({"model": {"head": {"name": "ml_decoder", **options}}})


def test_more_groups_than_labels_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most one group for each of the 7 labels, got 8") as caught:
        head(groups=8)
    assert caught.value.where == "model.head.groups"
