"""Settings on the command line: their order, their parts, and the answers to wrong ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from msrn import registry
from msrn.cli import main
from msrn.cli.arguments import parse, resolve
from msrn.config import load_settings
from msrn.errors import ConfigError
from msrn.presets import preset, preset_names

Capture = pytest.CaptureFixture[str]
Wrong = Callable[..., str]
Printed = Callable[..., dict[str, Any]]


def test_flags_win_over_the_file_and_the_file_over_the_preset(printed: Printed, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lr: 0.5, epochs: 7}\ndata: {image_size: 96}\nmodel: {head: {pools: [1, 1, 1]}}\n")
    found = printed("train", "--optim.epochs", "9", "--config", str(file), "--preset", "tiny")
    assert found["preset"] == "tiny"
    assert found["model"]["head"]["width"] == preset("tiny")["model"]["head"]["width"]  # the preset's own
    assert found["model"]["head"]["pools"] == [1, 1, 1]  # a list is replaced
    assert (found["data"]["image_size"], found["optim"]["lr"], found["optim"]["epochs"]) == (96, 0.5, 9)
    assert found["optim"]["momentum"] == 0.9  # the default


def test_a_preset_that_a_file_names_is_the_base_of_the_file(printed: Printed, wrong: Wrong, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: tiny\noptim: {epochs: 7}\n")
    found = printed("train", "--config", str(file))
    assert (found["preset"], found["model"]["backbone"], found["optim"]["epochs"]) == ("tiny", "test_resnet", 7)
    assert printed("train", "--config", str(file), "--preset", "tiny") == found
    err = wrong("train", "--config", str(file), "--preset", "voc2007")
    assert "the settings stand on preset tiny, got --preset voc2007" in err
    assert str(file) in err
    file.write_text("preset: tinny\n")
    err = wrong("train", "--config", str(file))
    assert "did you mean 'tiny'?" in err
    assert str(file) in err


@pytest.mark.parametrize("name", preset_names())
def test_printed_settings_are_a_valid_settings_file_and_give_themselves(
    printed: Printed, tmp_path: Path, name: str
) -> None:
    found = printed("train", "--preset", name, "--data.root", "some folder: ü")
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    assert printed("train", "--config", str(tmp_path / "printed.yaml")) == found
    assert load_settings(found).model_dump(mode="json") == found


def test_every_kind_of_setting_can_be_given_as_a_flag(printed: Printed) -> None:
    head = ["--model.head.pools=[1,1]", "--model.head.extra_convs=[false,true]", "--model.head.output_layer=per_label"]
    flags = ["--model.stages=[-2,-1]", *head, "--model.final_conv=true", "--optim.lr=1e-3", "--optim.schedule=cosine"]
    found = printed("train", *flags, "--data.train", "a b.csv", "--data.val=no", "--labels.aliases={a: b}")
    model = found["model"]
    assert (model["stages"], model["head"]["pools"], model["final_conv"]) == ([-2, -1], [1, 1], True)
    assert (model["head"]["extra_convs"], model["head"]["output_layer"]) == ([False, True], "per_label")
    assert (found["optim"]["lr"], found["optim"]["schedule"]) == (0.001, "cosine")
    assert (found["data"]["train"], found["data"]["val"]) == ("a b.csv", "no")  # a text stays a text
    assert found["labels"]["aliases"] == {"a": "b"}


def test_of_a_flag_given_twice_the_later_one_holds(printed: Printed) -> None:
    assert printed("train", "--optim.lr", "1", "--optim.lr=2")["optim"]["lr"] == 2


def test_a_value_may_be_negative_empty_or_hold_an_equals_sign(printed: Printed) -> None:
    found = printed("train", "--model.freeze", "-1", "--data.val=", "--data.train", "", "--data.root=a=b")
    assert (found["model"]["freeze"], found["data"]["val"], found["data"]["train"]) == (-1, "", "")
    assert found["data"]["root"] == "a=b"


@pytest.mark.parametrize(
    "flags",
    [
        ["--data.reader", "coco", "--data.reader.crowd", "skip"],
        ["--data.reader.crowd=skip", "--data.reader=coco"],
        ["--data.reader.name=coco", "--data.reader.crowd=skip"],
    ],
)
def test_a_part_is_chosen_by_its_section_and_takes_its_options_in_any_order(printed: Printed, flags: list[str]) -> None:
    reader = printed("train", "--preset=tiny", *flags)["data"]["reader"]
    assert (reader["name"], reader["crowd"], reader["order"]) == ("coco", "skip", "name")
    assert "delimiter" not in reader


def test_another_head_drops_the_options_that_the_preset_set_for_its_own(printed: Printed) -> None:
    found = printed("train", "--preset=tiny", "--model.head", "csra", "--model.head.residual=0.2")
    assert found["model"]["head"] == {"name": "csra", "temperatures": [1.0], "residual": 0.2}
    assert found["model"]["backbone"] == "test_resnet"


def test_an_option_of_the_default_part_needs_no_name(printed: Printed) -> None:
    found = printed("train", "--model.head.width", "8", "--data.reader.empty=drop", "--loss", "soft_margin")
    assert (found["model"]["head"]["name"], found["model"]["head"]["width"]) == ("msrn", 8)
    assert (found["data"]["reader"]["name"], found["data"]["reader"]["empty"]) == ("table", "drop")
    assert (found["loss"]["name"], found["loss"]["weights"]) == ("soft_margin", "none")


def test_the_home_folder_is_found_behind_an_equals_sign(
    printed: Printed, wrong: Wrong, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "aliases.yaml").write_text("sofa: couch\n")
    (tmp_path / "mine.yaml").write_text("optim: {epochs: 3}\n")
    found = printed("train", "--data.root=~/VOC", "--labels.aliases=~/aliases.yaml", "--config=~/mine.yaml")
    assert found["data"]["root"] == f"{tmp_path}/VOC"
    assert found["labels"]["aliases"] == {"sofa": "couch"}
    assert found["optim"]["epochs"] == 3
    assert printed("train", "--labels.template=~{}")["labels"]["template"] == "~{}"
    assert f"{tmp_path}/gone" in wrong("predict", "~/gone", "a.jpg")


def test_a_command_prints_the_settings_that_it_reads_and_no_others(printed: Printed) -> None:
    assert printed("data", "split", "trainval", "out", "--preset=voc2007") == {
        "data": {"reader": {"name": "voc"}, "root": "", "labels": ""}
    }
    found = printed("labels", "--preset=tiny", "--run.seed=3")
    assert found.keys() == {"preset", "data", "labels", "run"}
    assert found["run"] == {"seed": 3}


def test_evaluate_starts_from_the_data_settings_of_training(printed: Printed, tiny_run: Path, scenes: Path) -> None:
    found = printed("evaluate", str(tiny_run), "--data.eval_batch_size=5")
    assert (found["data"]["root"], found["data"]["eval_batch_size"]) == (str(scenes), 5)
    assert "model" not in found


def test_help_shows_the_options_of_the_chosen_part_with_current_values(capsys: Capture) -> None:
    assert main(["train", "--preset=tiny", "--model.head", "csra", "--model.head.residual=0.3", "--help"]) == 0
    out, _ = capsys.readouterr()
    assert f"One of: {', '.join(registry.names('head'))}" in " ".join(out.split())
    assert "--model.head (csra)" in out
    assert "--model.head.residual (0.3)" in out
    assert "--model.head.temperatures ([1.0])" in out
    assert "--model.head.width" not in out
    assert "--model.backbone (test_resnet)" in out
    assert "images per optimizer step" in out


def test_help_lists_only_settings_that_the_command_reads(capsys: Capture) -> None:
    assert main(["data", "check", "--help"]) == 0
    out, _ = capsys.readouterr()
    assert "--data.root" in out
    assert "--data.reader.delimiter" in out
    assert "--data.batch_size" not in out
    assert "--model" not in out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        # an option or a setting that does not exist
        (["train", "--qqq"], ["unknown option --qqq", "msrn train --help"]),
        (["train", "--resum", "x"], ["unknown option --resum", "did you mean '--resume'?"]),
        (["train", "--lr", "1"], ["unknown option --lr", "did you mean '--optim.lr'?"]),
        (["train", "--modle.head=csra"], ["unknown option --modle.head", "did you mean '--model.head'?"]),
        (["train", "--data.reader=coco", "--crowd=skip"], ["did you mean '--data.reader.crowd'?"]),
        (["train", "--preset=tiny", "--model.head=csra", "--residual=1"], ["did you mean '--model.head.residual'?"]),
        (["train", "--optim.lrr", "1"], ["unknown setting optim.lrr", "did you mean '--optim.lr'?"]),
        (["train", "--optim.batch_size=1"], ["unknown setting optim.batch_size", "did you mean '--data.batch_size'?"]),
        (["train", "--model.width=1"], ["unknown setting model.width", "did you mean '--model.head.width'?"]),
        (["train", "--data.reader=coco", "--data.reader.crwd=x"], ["did you mean '--data.reader.crowd'?"]),
        (["train", "--model.head=csra", "--model.head.width=8"], ["model.head.width", "temperatures, residual"]),
        (["train", "--preset=tiny", "--model.head=max_pool", "--model.head.width=8"], ["the part has no options"]),
        (["train", "--data.root.x=1"], ["data.root: expected a text"]),
        # a part that does not exist
        (["train", "--model.head", "crsa"], ["model.head: there is no head named 'crsa'", "did you mean 'csra'?"]),
        (["train", "--loss=bce"], ["loss: there is no loss named 'bce'", "soft_margin"]),
        (["train", "--data.reader=cocoa"], ["data.reader: there is no reader named 'cocoa'", "did you mean 'coco'?"]),
        # a value that is missing, or too many
        (["train", "--optim.lr"], ["expected a value after --optim.lr"]),
        (["train", "--optim.lr", "--preset", "tiny"], ["expected a value after --optim.lr"]),
        (["train", "--preset"], ["expected a value after --preset"]),
        (["train", "--resume", "--print_config"], ["expected a value after --resume"]),
        (["train", "--print_config=yes"], ["--print_config takes no value, got 'yes'"]),
        (["train", "more"], ["unexpected argument 'more'"]),
        (["train", "--data", "x"], ["--data is a section of settings", "--data.NAME"]),
        (["train", "--data.", "x"], ["--data. is a section of settings", "--data.NAME"]),
        (["train", "--data.root=x", "--data.root.y=1"], ["--data.root is given a value and used as a section"]),
        (["train", "--data.root.y=1", "--data.root=x"], ["--data.root is a section of settings"]),
        # a value that does not fit
        (["train", "--preset", "voc2077"], ["there is no preset 'voc2077'", "did you mean 'voc2007'?"]),
        (["train", "--preset", "zzz"], ["the presets are", "coco2014"]),
        (["train", "--data.batch_size", "abc"], ["data.batch_size: expected a whole number, got 'abc'"]),
        (["train", "--data.augment", "modren"], ["data.augment", "'modern'", "got 'modren'"]),
        (["train", "--optim.warmup_epochs", "40"], ["warmup_epochs (40", "shorter than the run (40 epochs)"]),
        (["train", "--data.batch_size", "9", "--optim.accumulate", "2"], ["data.batch_size (9)", "optim.accumulate"]),
        (["train", "--config", "gone.yaml"], ["cannot read settings: No such file", "at: gone.yaml"]),
        # a setting that the command does not read
        (["evaluate", "B", "--model.backbone", "x"], ["msrn evaluate does not read the setting model.backbone"]),
        (["evaluate", "B", "--optim.lr=1"], ["msrn evaluate does not read the setting optim.lr"]),
        (["evaluate", "B", "--data.image_size=64"], ["msrn evaluate does not read the setting data.image_size"]),
        (["evaluate", "B", "--data.rot=x"], ["unknown setting data.rot", "did you mean '--data.root'?"]),
        (["summary", "--optim.lr=1"], ["msrn summary does not read the setting optim.lr"]),
        (["labels", "--data.batch_size=1"], ["msrn labels does not read the setting data.batch_size"]),
        (["data", "check", "a.csv", "--data.augment=none"], ["msrn data check does not read the setting data.augment"]),
        (["predict", "B", "a.jpg", "--data.root=x"], ["msrn predict reads no settings, got --data.root"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0] in {"train", "evaluate"} else None,
)
def test_a_wrong_argument_is_explained_and_nothing_is_written(
    wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    err = wrong(*arguments)
    assert not [part for part in expected if part not in err], err
    assert not list(tmp_path.iterdir())


def test_all_problems_of_a_settings_file_come_together_with_their_places(wrong: Wrong, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: tiny\noptim: {lr: fast, epoch: 3}\ndata: {image_size: 5}\ntraining: {}\n")
    err = wrong("train", "--config", str(file), "--optim.clip_norm=-1")
    assert "5 problems" in err
    for part in ("optim.lr", "did you mean 'optim.epochs'?", "data.image_size", "unknown setting training"):
        assert part in err
    assert err.count(f"at: {file}\n") == 4
    assert err.count("at: command line\n") == 1


def test_a_relation_between_settings_is_placed_where_they_were_given(wrong: Wrong, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {warmup_epochs: 5, epochs: 9}\n")
    assert f"at: {file}, command line\n" in wrong("train", f"--config={file}", "--optim.epochs=3")
    assert "at: preset tiny, command line\n" in wrong("train", "--preset=tiny", "--optim.warmup_epochs=3")
    file.write_text("optim: {warmup_epochs: 9, epochs: 3}\n")
    assert f"at: {file}\n" in wrong("train", f"--config={file}", "--data.root=x")


@pytest.mark.parametrize("content", ["", "- a\n", "just words", "a: [", "\x00"])
def test_a_settings_file_that_is_none_is_refused(wrong: Wrong, tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    assert "mine.yaml" in wrong("train", "--config", str(tmp_path / "mine.yaml"))


def test_a_command_that_trains_nothing_is_not_bound_to_the_size_of_a_training_batch() -> None:
    evaluate = registry.load("command", "evaluate")
    args = parse("evaluate", evaluate, ["bundle", "--run.devices", "3"])
    assert args is not None
    assert resolve(args).run.devices == 3
    with pytest.raises(ConfigError, match="must be divisible"):
        resolve(parse("train", registry.load("command", "train"), ["--run.devices", "3"]))
