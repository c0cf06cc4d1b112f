"""``msrn labels``: tables, figure and edges of the label graph, of a data set and of a bundle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from msrn.cli import main

Capture = pytest.CaptureFixture[str]
Wrong = Callable[..., str]
Printed = Callable[..., dict[str, Any]]


def test_labels_graph_leaves_the_names_out(capsys: Capture, scenes: Path) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}"]
    assert main(["labels", *data]) == 0
    names, graph = capsys.readouterr().out.split("\n\n", 2)[1:]
    assert main(["labels", "graph", *data]) == 0
    assert capsys.readouterr().out == graph
    assert names.startswith("label ")
    assert "edges A -> B: at least 40 % of the images with A also show B (counted on 38 training images)" in graph


def test_labels_draws_and_writes_and_overwrites_only_with_force(
    wrong: Wrong, capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}"]
    files = [tmp_path / "graph.svg", tmp_path / "edges.csv"]
    command = ["labels", "graph", *data, f"--draw={files[0]}", f"--edges={files[1]}"]
    assert main(command) == 0
    assert capsys.readouterr().err == f"{files[0]}\n{files[1]}\n"
    assert files[0].read_text().startswith("<?xml")
    assert files[1].read_text().startswith("from,to,weight\n")
    files[1].write_text("mine")
    assert "--force" in wrong(*command)
    assert files[1].read_text() == "mine"
    assert main([*command, "--force"]) == 0
    assert files[1].read_text() != "mine"
    capsys.readouterr()
    assert ".svg, .png or .pdf" in wrong("labels", *data, f"--draw={tmp_path / 'graph.bmp'}")


def test_edges_that_labels_wrote_are_read_by_training(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}", "--labels.threshold=0.3"]
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


def test_labels_of_a_bundle_need_no_data_and_show_its_groups(
    wrong: Wrong, capsys: Capture, tiny_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["labels", f"--bundle={tiny_run}", "--draw=groups.svg"]) == 0
    assert "label groups learned" in capsys.readouterr().out
    assert "group 1" in Path("groups.svg").read_text()
    assert main(["labels", f"--bundle={tiny_run}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["labels"]) == 16
    assert sum(found["labels"][0]["groups"]) == pytest.approx(1, abs=1e-4)
    for more in ("--preset=tiny", "--labels.threshold=0.2", "--data.train=x.csv"):
        assert "leave the settings out" in wrong("labels", f"--bundle={tiny_run}", more)


def test_aliases_come_from_a_file_or_the_command_line_and_stay_with_the_run(
    printed: Printed, wrong: Wrong, capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}"]
    (tmp_path / "words.txt").write_text("ship 1 2 3\nsun 0 1 0\n")
    (tmp_path / "aliases.yaml").write_text("boat: ship\n")
    embeddings = f"--labels.embeddings={tmp_path / 'words.txt'}"
    for aliases in (f"--labels.aliases={tmp_path / 'aliases.yaml'}", '--labels.aliases={"boat": "ship"}'):
        assert printed("labels", *data, aliases)["labels"]["aliases"] == {"boat": "ship"}
        assert main(["labels", *data, embeddings, aliases]) == 0
        assert re.search(r"^boat +\d+ +alias +ship", capsys.readouterr().out, re.MULTILINE)
    assert "bote" in wrong("labels", *data, embeddings, '--labels.aliases={"bote": "ship"}')


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labels.graph=file"], "graph_file goes with graph file or published"),
        (["--labels.graph_file=edges.csv"], "graph_file goes with graph file or published"),
        (["--labels.graph=file", "--labels.graph_file=gone.csv"], "cannot read the edges"),
        (["--labels.graph=published", "--labels.graph_file=gone.npz"], "gone.npz"),
        (["--labels.graph=identity", "--labels.smoothing=5"], "smoothing is for graphs that are counted"),
        (["--labels.smoothing=-1"], "expected at least 0"),
        (["--labels.template=a photo"], "template must hold {} once"),
        (["--labels.template=a {}"], "only sentence models read a template"),
        (["--labels.aliases=gone.yaml"], "cannot read the aliases of gone.yaml"),
        (["--labels.direction=both"], "directed"),
    ],
)
def test_settings_of_labels_that_do_not_fit_are_explained(
    wrong: Wrong, scenes: Path, flags: list[str], message: str
) -> None:
    assert message in wrong("labels", "--preset=tiny", "--data.reader=table", f"--data.root={scenes}", *flags)


def test_labels_prints_as_json_the_edges_that_it_writes(capsys: Capture, scenes: Path, tmp_path: Path) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}", "--labels.threshold=0.3"]
    assert main(["labels", *data, "--json", f"--edges={tmp_path / 'edges.json'}"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == f"{tmp_path / 'edges.json'}\n"
    assert found["edges"] == json.loads((tmp_path / "edges.json").read_text()) != []
    assert found["threshold"] == 0.3
    assert [row["label"] for row in found["labels"]] == sorted((scenes / "labels.txt").read_text().split("\n")[:-1])


def test_a_figure_that_is_there_is_kept_and_nothing_else_is_written(wrong: Wrong, scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "graph.svg").write_text("mine")
    files = [f"--draw={tmp_path / 'graph.svg'}", f"--edges={tmp_path / 'edges.csv'}"]
    err = wrong("labels", "--preset=tiny", "--data.reader=table", f"--data.root={scenes}", *files)
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
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}", f"--labels.direction={direction}"]
    published = ["--labels.graph=published", f"--labels.graph_file={tmp_path / 'counts.npz'}"]
    assert main(["labels", "graph", *data, *published]) == 0
    out = capsys.readouterr().out
    assert f"(published counts of {tmp_path / 'counts.npz'})" in out
    found = re.findall(r"^  (\S+) +-> (\S+) +([\d.]+)$", out, re.MULTILINE)
    assert found == [(names[0], names[1], "0.75"), (names[1], names[0], "0.75")][:edges]


def test_labels_writes_nothing_if_the_suffix_of_one_of_its_files_is_unknown(
    wrong: Wrong, scenes: Path, tmp_path: Path
) -> None:
    data = ["--preset=tiny", "--data.reader=table", f"--data.root={scenes}"]
    files = [f"--edges={tmp_path / 'edges.csv'}", f"--draw={tmp_path / 'graph.bmp'}"]
    assert "ends in .svg, .png or .pdf, got" in wrong("labels", *data, *files)
    files = [f"--edges={tmp_path / 'edges'}", f"--draw={tmp_path / 'graph.svg'}"]
    assert "ends in .csv, .tsv, .json or .npz, got" in wrong("labels", *data, *files)
    assert not list(tmp_path.iterdir())


def test_a_bundle_calls_its_graph_symmetric_only_if_it_was_made_so(
    capsys: Capture, scenes: Path, tmp_path: Path
) -> None:
    """One edge each way: the kept edges alone do not say by which rule they were kept."""
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes((scenes / "images" / "train" / f"{number:06}.jpg").read_bytes())
    rows = [f"{number}.jpg,{'sea|boat' if number < 6 else 'sun'}" for number in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["image,labels", *rows, ""]))
    for direction, words in (("directed", "also show B ("), ("symmetric", "also show B, or the reverse (")):
        flags = [f"--data.train={tmp_path / 't.csv'}", "--data.val=none", f"--labels.direction={direction}"]
        folder = tmp_path / direction
        assert main(["train", "--preset=tiny", *flags, "--optim.epochs=1", f"--run.folder={folder}"]) == 0
        capsys.readouterr()
        assert main(["labels", "graph", f"--bundle={folder}"]) == 0
        assert words in capsys.readouterr().out
