"""Settings are checked as a whole, and every preset is a working recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from pydantic import ValidationError

from msrn import registry
from msrn.config import ModelSettings, load_settings, merge, setting_fields
from msrn.errors import ConfigError
from msrn.models.classifier import create_model
from msrn.models.heads.base import LabelInputs
from msrn.presets import preset, preset_names, read_settings_file, read_yaml


def test_every_mistake_is_reported_at_once_with_the_nearest_name() -> None:
    tree = {"data": {"batch_sise": 3, "image_size": 1}, "optim": {"lr": "fast"}, "modl": {}}
    with pytest.raises(ConfigError) as caught:
        load_settings(tree, "mine.yaml")
    message = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "unknown setting data.batch_sise" in message
    assert "did you mean 'data.batch_size'?" in message
    assert "did you mean 'model'?" in message
    assert "data.image_size: expected at least 32, got 1" in message
    assert message.count("at: mine.yaml") == 4


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"optim": {"warmup_epochs": 5, "epochs": 5}}, "warmup_epochs .* must be shorter"),
        ({"optim": {"step_epochs": [3, 2]}}, "step_epochs must increase"),
        ({"optim": {"step_epochs": [2, 2]}}, "step_epochs must increase"),
        ({"data": {"batch_size": 10}, "optim": {"accumulate": 4}}, "must be divisible"),
        ({"data": {"batch_size": 10}, "run": {"devices": 4}}, "must be divisible"),
    ],
)
def test_settings_that_contradict_each_other_are_reported(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
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
        "model": {"stages": [-1], "head": {"name": "msrn", "extra_convs": [False], "pools": [1]}},
    }
    settings = load_settings(tree)
    assert load_settings(yaml.safe_load(settings.to_yaml())) == settings
    assert (settings.data.train, settings.optim.lr, settings.model.head.model_dump()["extra_convs"]) == (
        "no",
        1e-7,
        (False,),
    )


def test_settings_cannot_be_changed_once_checked() -> None:
    settings = load_settings({})
    with pytest.raises(ValidationError, match="frozen"):
        settings.optim.lr = 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_numbers_that_mean_nothing_are_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"optim\.lr"):
        load_settings({"optim": {"lr": value}})


def test_an_unknown_key_with_no_near_name_is_reported_with_the_names_there_are() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"run": {"zzzzzz": 1}})
    assert caught.value.message == "unknown setting run.zzzzzz"
    assert caught.value.hint.startswith("known here: folder, seed, device")


def test_merging_replaces_lists_and_joins_sections() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert base["a"] == {"x": 1, "y": [1, 2]}


def test_an_unknown_preset_and_a_broken_file_are_reported(tmp_path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'voc2007'"):
        preset("voc207")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="expected sections"):
        read_yaml(tmp_path / "list.yaml")


@pytest.mark.parametrize("text", ["a: [1", "", "just words", "a: \x00"])
def test_files_that_are_no_settings_are_reported_by_name(tmp_path: Path, text: str) -> None:
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
    section = settings.model.model_dump()
    small = {"backbone": "test_resnet", "weights": "none", "final_conv": False}
    model = ModelSettings.model_validate({**section, **small, "head": {**section["head"], "width": 8}})
    labels = LabelInputs(tuple(f"label {n}" for n in range(20)), torch.randn(20, 5), torch.eye(20))
    assert create_model(model, labels)(torch.zeros(2, 3, 64, 64)).logits.shape == (2, 20)


def test_aliases_of_a_file_become_part_of_the_settings_and_all_of_it_is_text(tmp_path: Path) -> None:
    file = tmp_path / "aliases.yaml"
    file.write_text("\ufeffno: nope\ntvmonitor: tv monitor\n7: seven\n", encoding="utf-8")
    settings = load_settings({"labels": {"aliases": str(file)}})
    file.unlink()
    kept = load_settings(yaml.safe_load(settings.to_yaml()))
    assert kept.labels.alias_texts == {"no": "nope", "tvmonitor": "tv monitor", "7": "seven"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read the aliases"),
        ("- sofa\n", "expected lines such as 'tvmonitor: tv monitor'"),
        ("sofa: [couch, settee]\n", "expected lines such as"),
        ("sofa: ''\n", "an alias must be a text, sofa has none"),
        ("sofa: {couch\n", "cannot read the aliases"),
    ],
)
def test_files_that_are_no_aliases_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    file = tmp_path / "aliases.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_settings({"labels": {"aliases": str(file)}})


def test_another_part_takes_the_options_of_the_former_with_it() -> None:
    base = {"model": {"freeze": 2, "head": {"name": "msrn", "width": 8, "pools": [1, 1, 1]}}}
    merged = merge(base, {"model": {"head": {"name": "csra", "residual": 0.2}}})
    assert merged == {"model": {"freeze": 2, "head": {"name": "csra", "residual": 0.2}}}
    assert merge(base, {"model": {"head": "max_pool"}})["model"]["head"] == {"name": "max_pool"}
    assert merge(base, {"model": {"head": {"width": 16}}})["model"]["head"]["width"] == 16
    assert merge({"optim": {"name": "sgd", "lr": 1}}, {"optim": {"name": "adamw"}})["optim"]["lr"] == 1


def test_a_part_is_named_by_its_section_alone() -> None:
    assert load_settings({"model": {"head": "csra"}}) == load_settings({"model": {"head": {"name": "csra"}}})


def test_options_without_a_name_are_those_of_the_default_part() -> None:
    named = {"model": {"head": {"name": "msrn", "width": 8}}, "data": {"reader": {"name": "table", "empty": "drop"}}}
    assert load_settings({"model": {"head": {"width": 8}}, "data": {"reader": {"empty": "drop"}}}) == load_settings(
        named
    )
    width = {"model": {"head": {"width": 8}}}
    assert merge(width, {"model": {"head": "msrn"}}) == {"model": {"head": {"width": 8, "name": "msrn"}}}
    assert merge(width, {"model": {"head": "csra"}}) == {"model": {"head": {"name": "csra"}}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"optim": {"lr": "fast"}}, "optim.lr: expected a number, got 'fast'"),
        ({"optim": {"lr": 0}}, "optim.lr: expected a number above 0, got 0"),
        ({"optim": {"lr": float("inf")}}, "optim.lr: expected a finite number, got inf"),
        ({"optim": {"momentum": 1}}, "optim.momentum: expected a number below 1, got 1"),
        ({"labels": {"threshold": 2}}, "labels.threshold: expected at most 1, got 2"),
        ({"optim": {"epochs": "ten"}}, "optim.epochs: expected a whole number, got 'ten'"),
        ({"optim": {"epochs": 1.5}}, "optim.epochs: expected a whole number, got 1.5"),
        ({"optim": {"step_epochs": 3}}, "optim.step_epochs: expected a list such as [1, 2], got 3"),
        ({"model": {"stages": []}}, "model.stages: expected at least 1 value, got []"),
        ({"model": {"stages": [1, "x"]}}, "model.stages.1: expected a whole number, got 'x'"),
        ({"model": {"final_conv": "maybe"}}, "model.final_conv: expected true or false, got 'maybe'"),
        ({"data": {"root": 3}}, "data.root: expected a text, got 3"),
        ({"data": 3}, "data: expected a section of settings, got 3"),
        ({"data": {"resize": "cut"}}, "data.resize: expected 'squash' or 'crop', got 'cut'"),
        ({"labels": {"aliases": 3}}, "labels.aliases: expected a section such as {key: value} or a text, got 3"),
        (
            {"model": {"head": {"name": "csra", "temperatures": ["low"]}}},
            "model.head.temperatures.0: expected a number or 'max', got 'low'",
        ),
    ],
)
def test_a_value_of_the_wrong_kind_is_one_problem_with_what_was_expected_and_given(
    tree: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(tree)
    assert [problem.message for problem in caught.value.problems] == [message]


def test_each_problem_has_its_own_place() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"optim": {"lr": "fast", "epoch": 3}}, lambda path: f"line of {path}")
    assert [problem.where for problem in caught.value.problems] == ["line of optim.lr", "line of optim.epoch"]


def test_the_fields_of_a_tree_hold_the_options_of_the_parts_that_it_chooses() -> None:
    found = {path: value for path, _, value in setting_fields({"model": {"head": "csra"}, "optim": {"lr": 1}})}
    assert (found["model.head"], found["model.head.residual"], found["optim.lr"]) == ("csra", 0.1, 1)
    assert not {"model.head.width", "model.head.name", "model"} & found.keys()
    only = [path for path, _, _ in setting_fields({"data": {"reader": "coco"}}, only=["data.reader", "run.seed"])]
    options = [key for key in registry.options_class("reader", "coco").model_fields if key != "name"]
    assert only == ["data.reader", *(f"data.reader.{key}" for key in options), "run.seed"]


@pytest.mark.parametrize(
    ("tree", "message", "hint"),
    [
        ({"model": {"head": "crsa"}}, "there is no head named 'crsa'", ""),
        ({"loss": {"name": "sotf_margin"}}, "there is no loss named 'sotf_margin'", ""),
        ({"model": {"head": {"name": 3}}}, "expected the name of a head", ""),
        ({"data": {"reader": 3}}, "expected the name of a reader", ""),
        ({"model": {"head": {"name": "csra", "width": 8}}}, r"unknown setting model\.head\.width", "temperatures"),
        (
            {"model": {"head": {"name": "csra", "residul": 1}}},
            r"unknown setting model\.head\.residul",
            "'model.head.residual'",
        ),
        (
            {"model": {"head": {"name": "max_pool", "checkpoint": "a.pth"}}},
            r"setting model\.head\.checkpoint",
            "the part has no options",
        ),
        ({"model": {"width": 8}}, r"unknown setting model\.width", "'model.head.width'"),
        ({"model": {"head": "csra"}, "optim": {"residual": 1}}, r"setting optim\.residual", "'model.head.residual'"),
        ({"optim": {"batch_size": 8}}, r"unknown setting optim\.batch_size", "'data.batch_size'"),
    ],
)
def test_a_wrong_part_or_option_is_reported_with_what_there_is(
    tree: dict[str, object], message: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(tree)
    assert hint in caught.value.hint


def test_a_settings_file_that_names_a_preset_stands_on_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: tiny\noptim: {epochs: 7}\n")
    settings = load_settings(read_settings_file(path))
    assert (settings.preset, settings.model.backbone, settings.optim.epochs) == ("tiny", "test_resnet", 7)
    path.write_text("preset: tinny\n")
    with pytest.raises(ConfigError, match="there is no preset 'tinny'") as caught:
        read_settings_file(path)
    assert caught.value.where == str(path)


def test_a_section_that_stands_twice_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text("optim: {epochs: 7}\ndata: {}\noptim: {lr: 1}\n")
    with pytest.raises(ConfigError, match="the key 'optim' stands twice"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"template": "a photo"}, r"template must hold \{\} once, for the label's name, got 'a photo'"),
        ({"template": "{} or {}"}, r"template must hold \{\} once"),
        ({"graph_file": "edges.csv"}, "graph_file goes with graph file or published, got graph cooccurrence"),
        ({"graph": "file"}, "graph_file goes with graph file or published, got graph file and graph_file ''"),
        ({"graph": "published"}, "graph_file goes with graph file or published"),
        ({"graph": "identity", "graph_file": "edges.csv"}, "graph_file goes with graph file or published"),
        ({"graph": "file", "graph_file": "edges.csv", "smoothing": 2}, "smoothing is for graphs that are counted"),
        ({"smoothing": -0.1}, r"labels\.smoothing: expected at least 0"),
        ({"smoothing": float("inf")}, r"labels\.smoothing"),
        ({"direction": "both"}, r"labels\.direction: .*'directed' or 'symmetric'"),
        ({"aliases": {"sofa": " "}}, "an alias must be a text, sofa has none"),
    ],
)
def test_settings_of_labels_that_contradict_each_other_are_reported(labels: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings({"labels": labels})
