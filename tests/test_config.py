"""Are settings checked as a whole, and is every preset a working recipe?"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from msrn.config import load_settings, merge, preset, preset_names, read_yaml
from msrn.errors import ConfigError
from msrn.models import build_model


def test_every_mistake_is_told_at_once_with_the_nearest_name() -> None:
    tree = {"data": {"batch_sise": 3, "image_size": 1}, "optim": {"lr": "fast"}, "modl": {}}
    with pytest.raises(ConfigError) as caught:
        load_settings(tree, "mine.yaml")
    message = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "unknown setting data.batch_sise" in message
    assert "did you mean 'batch_size'?" in message
    assert "did you mean 'model'?" in message
    assert "data.image_size: Input should be greater than or equal to 32, got 1" in message
    assert message.count("at: mine.yaml") == 4


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"model": {"pools": [1]}}, r"pools needs one value per tap \(3\)"),
        ({"optim": {"warmup_epochs": 5, "epochs": 5}}, "warmup_epochs .* must be shorter"),
        ({"optim": {"step_epochs": [3, 2]}}, "step_epochs must increase"),
        ({"optim": {"step_epochs": [2, 2]}}, "step_epochs must increase"),
        ({"model": {"buffers": [True] * 4}}, r"buffers needs one value per tap \(3\)"),
        ({"data": {"batch_size": 10}, "optim": {"accumulate": 4}}, "must be divisible"),
        ({"data": {"batch_size": 10}, "run": {"devices": 4}}, "must be divisible"),
    ],
)
def test_settings_that_contradict_each_other_are_told(tree: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings(tree)


@pytest.mark.parametrize("name", preset_names())
def test_settings_survive_yaml(name: str) -> None:
    settings = load_settings(preset(name))
    assert settings.preset == name
    assert load_settings(yaml.safe_load(settings.to_yaml())) == settings


def test_settings_survive_yaml_whatever_their_words_and_numbers() -> None:
    tree = {
        "data": {"root": "Bücher: 1", "train": "no"},
        "optim": {"lr": 1e-7},
        "model": {"taps": [-1], "name": "msrn"},
    }
    tree["model"] |= {"buffers": [False], "pools": [1]}
    settings = load_settings(tree)
    assert load_settings(yaml.safe_load(settings.to_yaml())) == settings
    assert (settings.data.train, settings.optim.lr, settings.model.buffers) == ("no", 1e-7, (False,))


def test_settings_cannot_be_changed_once_checked() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.optim.lr = 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_mean_nothing_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        load_settings({"optim": {"lr": value}})


def test_an_unknown_key_with_no_near_name_is_told_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"run": {"zzzzzz": 1}})
    assert caught.value.message == "unknown setting run.zzzzzz"
    assert caught.value.hint.startswith("known here: folder, seed, device")


def test_merging_replaces_lists_and_joins_sections() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert base["a"] == {"x": 1, "y": [1, 2]}


def test_an_unknown_preset_and_a_broken_file_are_told(tmp_path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'voc2007'"):
        preset("voc207")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected sections"):
        read_yaml(tmp_path / "list.yaml")


@pytest.mark.parametrize("text", ["a: [1", "", "just words", "a: \x00"])
def test_files_that_are_no_settings_are_told_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_yaml(path)
    assert caught.value.where == str(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_builds_and_its_model_runs_on_a_tiny_backbone(name: str) -> None:
    settings = load_settings(preset(name))
    small = {"backbone": "test_resnet", "weights": "none", "final_conv": False, "width": 8}
    model = build_model(
        settings.model.model_copy(update=small), label_vectors=torch.randn(20, 5), adjacency=torch.eye(20)
    )
    assert model(torch.zeros(2, 3, 64, 64)).logits.shape == (2, 20)


def test_aliases_of_a_file_become_part_of_the_settings_and_all_of_it_is_text(tmp_path: Path) -> None:
    file = tmp_path / "aliases.yaml"
    file.write_text("\ufeffno: nope\ntvmonitor: tv monitor\n7: seven\n", encoding="utf-8")
    settings = load_settings({"labels": {"aliases": str(file)}})
    file.unlink()
    kept = load_settings(yaml.safe_load(settings.to_yaml()))
    assert kept.labels.alias_texts == {"no": "nope", "tvmonitor": "tv monitor", "7": "seven"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot read the aliases"),
        ("- sofa\n", "expected lines such as 'tvmonitor: tv monitor'"),
        ("sofa: [couch, settee]\n", "expected lines such as"),
        ("sofa: ''\n", "an alias must be a text, sofa has none"),
        ("sofa: {couch\n", "cannot read the aliases"),
    ],
)
def test_files_that_are_no_aliases_are_refused(tmp_path: Path, text: str | None, told: str) -> None:
    file = tmp_path / "aliases.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_settings({"labels": {"aliases": str(file)}})


def test_settings_of_a_run_from_before_labels_had_aliases_still_load() -> None:
    tree = yaml.safe_load(load_settings(preset("tiny")).to_yaml())
    for name in ("aliases", "template", "graph_file", "direction", "smoothing"):
        del tree["labels"][name]
    assert load_settings(tree) == load_settings(preset("tiny"))


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"template": "a photo"}, r"template must hold \{\} once, for the label's name, got 'a photo'"),
        ({"template": "{} or {}"}, r"template must hold \{\} once"),
        ({"graph_file": "edges.csv"}, "graph_file goes with graph file or published, got graph cooccurrence"),
        ({"graph": "file"}, "graph_file goes with graph file or published, got graph file and graph_file ''"),
        ({"graph": "published"}, "graph_file goes with graph file or published"),
        ({"graph": "identity", "graph_file": "edges.csv"}, "graph_file goes with graph file or published"),
        ({"graph": "file", "graph_file": "edges.csv", "smoothing": 2}, "smoothing is for graphs that are counted"),
        ({"smoothing": -0.1}, r"labels\.smoothing: .*greater than or equal to 0"),
        ({"smoothing": float("inf")}, r"labels\.smoothing"),
        ({"direction": "both"}, r"labels\.direction: .*'directed' or 'symmetric'"),
        ({"aliases": {"sofa": " "}}, "an alias must be a text, sofa has none"),
    ],
)
def test_settings_of_labels_that_contradict_each_other_are_told(labels: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load_settings({"labels": labels})
