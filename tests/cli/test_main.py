"""The command line: order of settings, words of errors, exit codes, and what it costs to ask for help."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from msrn.bundle.files import read_bundle
from msrn.cli import COMMANDS, main
from msrn.config import load_settings, preset, preset_names
from msrn.errors import ConfigError
from msrn.inference.predictor import Predictor

Capture = pytest.CaptureFixture[str]


def wrong(capsys: Capture, *arguments: str) -> str:
    """What a command that must fail says: exit code 2, nothing on stdout, no trace, message and hint."""
    assert main(list(arguments)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert 'File "' not in err
    return err


def printed(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The settings that a command resolves to."""
    assert main([*arguments, "--print_config"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return yaml.safe_load(out)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_given_for_every_command(capsys: Capture, command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"] if command else ["--help"])
    assert caught.value.code == 0
    out, _ = capsys.readouterr()
    assert "usage: msrn" in out
    expected = [] if command else [*COMMANDS]
    assert all(name in out for name in expected)


def test_help_tells_settings_with_their_meaning(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out, _ = capsys.readouterr()
    assert "--data.batch_size" in out
    assert "pictures per optimiser step" in out
    assert "voc2007_lite" in out


def test_asking_for_help_loads_no_torch_and_takes_under_a_second() -> None:
    program = (
        "import sys, msrn.cli\n"
        "heavy = {'torch', 'torchvision', 'timm', 'PIL', 'numba', 'lightning_fabric', 'matplotlib'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(msrn.cli.main(['--help']))\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: msrn" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


def test_the_version_is_told(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert re.search(r"\d+\.\d+\.\d+", capsys.readouterr().out)


def test_nothing_to_do_shows_help_and_fails(capsys: Capture) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "usage: msrn" in err


def test_flags_win_over_the_file_and_the_file_over_the_preset(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lr: 0.5, epochs: 7}\ndata: {image_size: 96}\nmodel: {pools: [1, 1, 1]}\n")
    base = preset("tiny")
    found = printed(capsys, "train", "--optim.epochs", "9", "--config", str(file), "--preset", "tiny")
    assert found["preset"] == "tiny"
    assert found["model"]["width"] == base["model"]["width"]  # the preset's own
    assert found["model"]["pools"] == [1, 1, 1]  # a list is replaced
    assert (found["data"]["image_size"], found["optim"]["lr"], found["optim"]["epochs"]) == (96, 0.5, 9)
    assert found["optim"]["momentum"] == 0.9  # the default


@pytest.mark.parametrize("name", preset_names())
def test_printed_settings_are_a_valid_settings_file_and_give_themselves(
    capsys: Capture, tmp_path: Path, name: str
) -> None:
    found = printed(capsys, "train", "--preset", name, "--data.root", "some folder: ü")
    (tmp_path / "printed.yaml").write_text(yaml.safe_dump(found), encoding="utf-8")
    assert printed(capsys, "train", "--config", str(tmp_path / "printed.yaml")) == found
    assert load_settings(found).to_yaml()


def test_every_kind_of_setting_can_be_given_as_a_flag(capsys: Capture) -> None:
    flags = ["--model.taps=[-2,-1]", "--model.pools=[1,1]", "--model.buffers=[false,true]", "--model.final_conv=true"]
    found = printed(capsys, "train", *flags, "--optim.lr=1e-3", "--optim.schedule=cosine", "--data.train", "a b.csv")
    model = found["model"]
    assert (model["taps"], model["pools"], model["buffers"]) == ([-2, -1], [1, 1], [False, True])
    assert model["final_conv"] is True
    assert (found["optim"]["lr"], found["optim"]["schedule"], found["data"]["train"]) == (0.001, "cosine", "a b.csv")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], ["trian", "train"]),
        (["train", "--optim.lrr", "1"], ["--optim.lrr", "did you mean '--optim.lr'?"]),
        (["train", "--qqq"], ["--qqq", "see msrn train --help"]),
        (["train", "--preset", "voc2077"], ["there is no preset 'voc2077'", "did you mean 'voc2007'?"]),
        (["train", "--preset", "zzz"], ["the presets are", "coco2014"]),
        (["train", "--data.batch_size", "abc"], ["data.batch_size", "integer", "abc"]),
        (["train", "--data.batch_size", "0"], ["data.batch_size", "0"]),
        (["train", "--optim.lr", "-1"], ["optim.lr", "greater than 0", "-1"]),
        (["train", "--optim.lr", "nan"], ["optim.lr"]),
        (["train", "--data.augment", "modren"], ["data.augment", "modern", "modren"]),
        (["train", "--model.taps", "[1,x]"], ["model.taps"]),
        (["train", "--model.pools", "[1]"], ["pools needs one value per tap (3), got [1]"]),
        (["train", "--optim.warmup_epochs", "40"], ["warmup_epochs (40", "shorter than the run (40 epochs)"]),
        (["train", "--data.batch_size", "9", "--optim.accumulate", "2"], ["data.batch_size (9)", "optim.accumulate"]),
        (["train", "--config", "gone.yaml"], ["cannot read settings: No such file", "at: gone.yaml"]),
        (["train", "--data.reader", "coco"], ["YAML file of settings", "--data.reader.NAME", "got coco"]),
        (["train", "--data.format", "cocoa"], ["Expected one of", "; got: cocoa"]),
        (["train", "--resume", "gone"], ["gone"]),
        (["train", "--preset", "tiny", "--data.train", "gone.csv"], ["gone.csv"]),
        (["train", "--preset", "voc2007"], ["no folder is set for format voc", "--data.root"]),
        (["labels", "--preset", "tiny", "--data.train", "gone.csv"], ["gone.csv"]),
        (["summary", "--preset", "voc2007"], ["number of labels is not known", "data.root", "--num_labels N"]),
        (["summary", "gone"], ["expected a bundle", "gone"]),
        (["summary", "--preset", "tiny", "--num_labels", "1"], ["at least two labels, got 1"]),
        (["evaluate", "gone"], ["expected a bundle", "gone"]),
        (["evaluate"], ["bundle", "see msrn evaluate --help"]),
        (["predict", "gone", "a.jpg"], ["expected a bundle", "gone"]),
        (["predict", "gone"], ["files"]),
        (["predict", "gone", "a.jpg", "--format", "xml"], ["format", "json", "xml"]),
        (["predict", "gone", "a.jpg", "--top", "many"], ["top", "many"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and value[0] in {*COMMANDS, "trian"} else "",
)
def test_mistakes_are_told_with_what_to_do(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    err = wrong(capsys, *arguments)
    assert not [part for part in told if part not in err], err
    assert not list(tmp_path.iterdir())  # nothing is written


def test_all_problems_of_a_settings_file_come_together(capsys: Capture, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("optim: {lr: fast, epoch: 3}\ndata: {image_size: 5}\ntraining: {}\n")
    err = wrong(capsys, "train", "--config", str(file))
    assert "4 problems" in err
    for part in ("optim.lr", "optim.epoch", "did you mean 'epochs'?", "data.image_size", "unknown setting training"):
        assert part in err
    assert err.count(str(file)) == 4


@pytest.mark.parametrize("content", ["", "- a\n", "just words", "a: [", "\x00"])
def test_a_settings_file_that_is_none_is_refused(capsys: Capture, tmp_path: Path, content: str) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    assert "mine.yaml" in wrong(capsys, "train", "--config", str(tmp_path / "mine.yaml"))


def test_debug_shows_the_trace() -> None:
    with pytest.raises(ConfigError):
        main(["train", "--preset", "zzz", "--debug"])


def test_a_file_that_cannot_be_written_is_told_without_a_trace(capsys: Capture, tiny_run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    err = wrong(capsys, "evaluate", str(tiny_run), "--out", str(tmp_path / "file" / "m.json"))
    assert str(tmp_path / "file") in err


def test_a_device_that_is_not_there_is_told(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    data = ["--data.format=scenes", f"--data.root={scenes}", f"--run.folder={tmp_path / 'run'}"]
    assert "CUDA" in wrong(capsys, "train", "--preset=tiny", *data, "--run.device=cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "told"), [("--batch_size=0", "batch size"), ("--threshold=2", "between 0 and 1")])
def test_predict_refuses_numbers_out_of_bounds(
    capsys: Capture, tiny_run: Path, scenes: Path, given: str, told: str
) -> None:
    assert told in wrong(capsys, "predict", str(tiny_run), str(scenes / "images" / "test"), given)


@pytest.mark.parametrize("top", ["0", "-1"])
def test_predict_shows_at_least_one_label_when_asked_for_the_best(
    capsys: Capture, tiny_run: Path, scenes: Path, top: str
) -> None:
    assert "top" in wrong(capsys, "predict", str(tiny_run), str(scenes / "images" / "test"), f"--top={top}")


def test_summary_tells_the_cost_of_a_bundle_and_of_a_network_before_there_is_data(
    capsys: Capture, tiny_run: Path
) -> None:
    assert main(["summary", str(tiny_run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["labels"] == len(json.loads((tiny_run / "bundle" / "bundle.json").read_text())["labels"])
    planned = ["--preset=tiny", "--num_labels=4", "--model.head=flatten", "--data.batch_size=2"]
    assert main(["summary", *planned]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "msrn, head flatten, on test_resnet: 4 labels" in out
    assert "train, 2 images" in out


@pytest.mark.parametrize(("head", "other"), [("flatten", "per_label"), ("per_label", "flatten")])
def test_labels_ends_with_the_weights_of_both_heads(capsys: Capture, scenes: Path, head: str, other: str) -> None:
    data = ["--data.format=scenes", f"--data.root={scenes}"]
    assert main(["labels", "--preset=tiny", *data, f"--model.head={head}", "--model.width=512"]) == 0
    out = capsys.readouterr().out.splitlines()
    labels = int(out[0].split()[0])
    groups = labels // 5
    weights = {
        "flatten": (labels + groups) * 3 * 512 * 2048 + 2048 + 2048 * labels + labels,
        "per_label": labels * 2 * 3 * 512 + labels,
    }
    told = {name: f"{count / 1e6:.3g} M" if count >= 1e6 else f"{count / 1e3:.3g} k" for name, count in weights.items()}
    assert out[-1] == f"head: {head}, {told[head]} weights; --model.head {other} has {told[other]}"


@pytest.mark.parametrize(
    ("count", "options", "few"),
    [(1, [], True), (8, [], True), (9, [], False), (0, [], False), (1, ["--optimize"], False)],
)
def test_predict_of_a_few_pictures_does_not_wait_for_the_fused_kernel(
    tiny_run: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, count: int, options: list[str], few: bool
) -> None:
    folder = scenes / "images" / "test"
    asked: list[bool] = []

    def load(cls: type[Predictor], bundle: str, **told: Any) -> Predictor:
        asked.append(told["few"])
        return cls(read_bundle(bundle), few=told["few"])

    monkeypatch.setattr(Predictor, "load", classmethod(load))
    files = [str(path) for path in sorted(folder.iterdir())[:count]] or [str(folder)]
    assert main(["predict", str(tiny_run), *files, *options]) == 0
    assert asked == [few]


def test_predict_without_any_picture_says_so(capsys: Capture, tiny_run: Path, tmp_path: Path) -> None:
    assert main(["predict", str(tiny_run), str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no pictures were found" in err


def test_a_reader_that_goes_away_ends_predict_quietly(
    capsys: Capture, tiny_run: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `msrn predict ... | head -1` does
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        code = main(["predict", str(tiny_run), str(scenes / "images" / "test"), "--format=json"])
    assert code == 0
    assert "error" not in capsys.readouterr().err


def test_python_m_msrn_is_msrn_and_keeps_data_apart_from_words(tiny_run: Path, scenes: Path) -> None:
    picture = scenes / "images" / "test" / "000000.jpg"
    done = subprocess.run(
        [sys.executable, "-m", "msrn", "predict", str(tiny_run), str(picture), "gone.jpg", "--format=json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 1
    assert [json.loads(line)["image"] for line in done.stdout.splitlines()] == [str(picture), "gone.jpg"]
    assert done.stderr == "1 of 2 pictures could not be read\n"


def test_labels_graph_leaves_the_names_out(capsys: Capture, scenes: Path) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}"]
    assert main(["labels", *data]) == 0
    names, graph = capsys.readouterr().out.split("\n\n", 2)[1:]
    assert main(["labels", "graph", *data]) == 0
    assert capsys.readouterr().out == graph
    assert names.startswith("label ")
    assert "edges A -> B: at least 40 % of the pictures with A also show B (counted on 38 training pictures)" in graph


def test_labels_draws_and_writes_and_overwrites_only_with_force(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}"]
    files = [tmp_path / "graph.svg", tmp_path / "edges.csv"]
    command = ["labels", "graph", *data, f"--draw={files[0]}", f"--edges={files[1]}"]
    assert main(command) == 0
    assert capsys.readouterr().err == f"{files[0]}\n{files[1]}\n"
    assert files[0].read_text().startswith("<?xml")
    assert files[1].read_text().startswith("from,to,weight\n")
    files[1].write_text("mine")
    assert "--force" in wrong(capsys, *command)
    assert files[1].read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert files[1].read_text() != "mine"
    capsys.readouterr()
    assert ".svg, .png or .pdf" in wrong(capsys, "labels", *data, f"--draw={tmp_path / 'graph.bmp'}")


def test_edges_that_labels_wrote_are_read_by_training(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}", "--labels.threshold=0.3"]
    file = tmp_path / "edges.tsv"
    assert main(["labels", "graph", *data, "--labels.direction=symmetric", f"--edges={file}"]) == 0
    counted = capsys.readouterr().out
    again = ["--labels.graph=file", f"--labels.graph_file={file}"]
    assert main(["labels", "graph", *data, *again]) == 0
    given = capsys.readouterr().out
    edges = [re.findall(r"^  .* -> .*$", text, re.MULTILINE) for text in (counted, given)]
    assert edges[0] == edges[1] != []
    pairs = {tuple(re.split(r" +-> +", edge.strip().rsplit(None, 1)[0])) for edge in edges[0]}
    assert pairs == {(b, a) for a, b in pairs}
    assert main(["train", *data, *again, "--optim.epochs=1", f"--run.folder={tmp_path / 'run'}"]) == 0


def test_labels_of_a_bundle_need_no_data_and_tell_its_groups(
    capsys: Capture, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["labels", f"--bundle={tiny_run}", "--draw=groups.svg"]) == 0
    assert "groups learnt" in capsys.readouterr().out
    assert "group 1" in Path("groups.svg").read_text()
    assert main(["labels", f"--bundle={tiny_run}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["labels"]) == 16
    assert sum(told["labels"][0]["groups"]) == pytest.approx(1, abs=1e-4)
    for more in ("--preset=tiny", "--labels.threshold=0.2", "--data.train=x.csv"):
        assert "leave the settings out" in wrong(capsys, "labels", f"--bundle={tiny_run}", more)


def test_aliases_come_from_a_file_or_the_command_line_and_stay_with_the_run(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}"]
    (tmp_path / "words.txt").write_text("ship 1 2 3\nsun 0 1 0\n")
    (tmp_path / "aliases.yaml").write_text("boat: ship\n")
    vectors = f"--labels.vectors={tmp_path / 'words.txt'}"
    for aliases in (f"--labels.aliases={tmp_path / 'aliases.yaml'}", '--labels.aliases={"boat": "ship"}'):
        assert printed(capsys, "labels", *data, aliases)["labels"]["aliases"] == {"boat": "ship"}
        assert main(["labels", *data, vectors, aliases]) == 0
        assert re.search(r"^boat +\d+ +alias +ship", capsys.readouterr().out, re.MULTILINE)
    assert "bote" in wrong(capsys, "labels", *data, vectors, '--labels.aliases={"bote": "ship"}')


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--labels.graph=file"], "graph_file goes with graph file or published"),
        (["--labels.graph_file=edges.csv"], "graph_file goes with graph file or published"),
        (["--labels.graph=file", "--labels.graph_file=gone.csv"], "cannot read the edges"),
        (["--labels.graph=published", "--labels.graph_file=gone.npz"], "gone.npz"),
        (["--labels.graph=identity", "--labels.smoothing=5"], "smoothing is for graphs that are counted"),
        (["--labels.smoothing=-1"], "greater than or equal to 0"),
        (["--labels.template=a photo"], "template must hold {} once"),
        (["--labels.template=a {}"], "only sentence models read a template"),
        (["--labels.aliases=gone.yaml"], "cannot read the aliases of gone.yaml"),
        (["--labels.direction=both"], "directed"),
    ],
)
def test_settings_of_labels_that_do_not_fit_are_explained(
    capsys: Capture, scenes: Path, flags: list[str], said: str
) -> None:
    assert said in wrong(capsys, "labels", "--preset=tiny", "--data.format=scenes", f"--data.root={scenes}", *flags)


def test_labels_tells_in_json_the_edges_that_it_writes(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}", "--labels.threshold=0.3"]
    assert main(["labels", *data, "--json", f"--edges={tmp_path / 'edges.json'}"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == f"{tmp_path / 'edges.json'}\n"
    assert told["edges"] == json.loads((tmp_path / "edges.json").read_text()) != []
    assert told["threshold"] == 0.3
    assert [row["label"] for row in told["labels"]] == sorted((scenes / "labels.txt").read_text().split("\n")[:-1])


def test_a_picture_that_is_there_is_kept_and_nothing_else_is_written(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    (tmp_path / "graph.svg").write_text("mine")
    files = [f"--draw={tmp_path / 'graph.svg'}", f"--edges={tmp_path / 'edges.csv'}"]
    err = wrong(capsys, "labels", "--preset=tiny", "--data.format=scenes", f"--data.root={scenes}", *files)
    assert str(tmp_path / "graph.svg") in err
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"graph.svg": "mine"}


@pytest.mark.parametrize(("direction", "edges"), [("directed", 1), ("symmetric", 2)])
def test_published_counts_make_the_graph_when_they_are_asked_for(
    capsys: Capture, scenes: Path, tmp_path: Path, direction: str, edges: int
) -> None:
    names = sorted((scenes / "labels.txt").read_text().split("\n")[:-1])
    counts = np.zeros((len(names), len(names)))
    counts[0, 1] = counts[1, 0] = 30
    np.savez(tmp_path / "counts.npz", counts=counts, totals=[40, 300, *[1] * (len(names) - 2)], labels=names)
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}", f"--labels.direction={direction}"]
    published = ["--labels.graph=published", f"--labels.graph_file={tmp_path / 'counts.npz'}"]
    assert main(["labels", "graph", *data, *published]) == 0
    out = capsys.readouterr().out
    assert f"(published counts of {tmp_path / 'counts.npz'})" in out
    found = re.findall(r"^  (\S+) +-> (\S+) +([\d.]+)$", out, re.MULTILINE)
    assert found == [(names[0], names[1], "0.75"), (names[1], names[0], "0.75")][:edges]


def test_labels_of_a_bundle_of_before_are_shown_with_what_is_not_known(
    capsys: Capture, tiny_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run / "bundle", tmp_path / "bundle")
    file = tmp_path / "bundle" / "bundle.json"
    facts = json.loads(file.read_text())
    del facts["label_side"]
    file.write_text(json.dumps(facts))
    assert main(["labels", f"--bundle={tmp_path / 'bundle'}"]) == 0
    out, _ = capsys.readouterr()
    assert "do not say how strong" in out
    assert "groups learnt" in out
    rows = out.split("\n\n")[1].splitlines()[1:]
    assert [row.split()[:4] for row in rows] == [[name, "-", "-", "-"] for name in facts["labels"]]


def test_labels_writes_nothing_if_one_of_its_files_can_be_no_such_thing(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    data = ["--preset=tiny", "--data.format=scenes", f"--data.root={scenes}"]
    files = [f"--edges={tmp_path / 'edges.csv'}", f"--draw={tmp_path / 'graph.bmp'}"]
    assert "ends in .svg, .png or .pdf, got" in wrong(capsys, "labels", *data, *files)
    files = [f"--edges={tmp_path / 'edges'}", f"--draw={tmp_path / 'graph.svg'}"]
    assert "ends in .csv, .tsv, .json or .npz, got" in wrong(capsys, "labels", *data, *files)
    assert not list(tmp_path.iterdir())


def test_a_bundle_calls_its_graph_symmetric_only_if_it_was_made_so(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    """One edge each way: the kept edges alone do not say by which rule they were kept."""
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes((scenes / "images" / "train" / f"{number:06}.jpg").read_bytes())
    rows = [f"{number}.jpg,{'sea|boat' if number < 6 else 'sun'}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["image,labels", *rows, ""]))
    for direction, told in (("directed", "also show B ("), ("symmetric", "also show B, or the reverse (")):
        flags = [f"--data.train={tmp_path / 't.csv'}", "--data.val=none", f"--labels.direction={direction}"]
        folder = tmp_path / direction
        assert main(["train", "--preset=tiny", *flags, "--optim.epochs=1", f"--run.folder={folder}"]) == 0
        capsys.readouterr()
        assert main(["labels", "graph", f"--bundle={folder}"]) == 0
        assert told in capsys.readouterr().out
