"""Whatever JSON tree or text stands in a file, its parser gives a value or one of our errors (hypothesis)."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from msrn.audit.result import CheckResult
from msrn.config import load_settings
from msrn.config.yaml_text import parse_yaml
from msrn.data.cells import delimiter_of, items_of, split_tags
from msrn.data.manifest import Manifest
from msrn.data.readers.coco import Options, read
from msrn.data.readers.table import table_from_bytes
from msrn.engine.evaluation import Evaluation
from msrn.errors import LabelError, MsrnError, Problem
from msrn.labels.space import LabelSpace

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["a.png", "\ud800"])
)
NAMES = """image labels images annotations categories id name file_name data result value source-ref job job-metadata
    class-map imageGcsUri classes format_version per_label model"""
KEYS = st.text(max_size=4) | st.sampled_from(NAMES.split())
TREES = st.recursive(
    LEAVES, lambda below: st.lists(below, max_size=4) | st.dictionaries(KEYS, below, max_size=5), max_leaves=12
)
often = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def table(tree: Any, folder: Path) -> None:
    table_from_bytes(json.dumps(tree).encode(), folder / "train.json")


def table_lines(tree: Any, folder: Path) -> None:
    entries = tree if isinstance(tree, list) else [tree]
    table_from_bytes("\n".join(map(json.dumps, entries)).encode(), folder / "train.jsonl")


def coco(tree: Any, folder: Path) -> None:
    parts = {name: tree if isinstance(tree, list) else [tree] for name in ("images", "annotations", "categories")}
    (folder / "train.json").write_text(json.dumps(parts))
    read(Options(), str(folder), "train.json", None)


def manifest(tree: Any, folder: Path) -> None:
    path = folder / "train.jsonl"
    path.write_text(json.dumps({"msrn_manifest": 1, "labels": ["sea"], "root": tree}) + "\n" + json.dumps(tree))
    Manifest.read(path)


def settings_tree(tree: Any, folder: Path) -> None:
    load_settings(tree if isinstance(tree, dict) else {"data": tree})


def results(tree: Any, folder: Path) -> None:
    for kind in (Evaluation, CheckResult):
        with pytest.raises(MsrnError):  # no tree that is drawn at random is a result
            kind.from_json(tree)


@pytest.mark.parametrize("parse", [table, table_lines, coco, manifest, settings_tree, results])
@often
@given(tree=TREES)
@example(tree=[{"data": {}, "annotations": 5}])
@example(tree=[{"data": {}, "annotations": [{"result": 5}]}])
@example(tree=[{"imageGcsUri": "a.png", "classificationAnnotations": 5}])
@example(tree=[{"source-ref": "a.png", "job": 1, "job-metadata": {"class-map": [1]}}])
@example(tree={"classes": [], "labels": {}})
@example(tree=[{}])
def test_a_parser_gives_a_value_or_our_error_for_any_tree(
    tmp_path: Path, parse: Callable[[Any, Path], None], tree: Any
) -> None:
    with suppress(MsrnError):
        parse(tree, tmp_path)


@often
@given(text=st.text(max_size=40) | st.text("[]{}()'\",:|;-\\ d1", max_size=40))
@example(text="['\\d']")
@example(text="{[1]}")
def test_cells_and_yaml_give_a_value_or_a_value_error_for_any_text(text: str) -> None:
    for parse in (items_of, parse_yaml, lambda text: split_tags(text, ","), lambda text: delimiter_of([text])):
        try:
            parse(text)
        except ValueError:
            continue


@often
@given(names=st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=4))
@example(names=["\ud800"])
@example(names=["a\0"])
def test_names_that_a_label_set_takes_come_back_from_its_file(tmp_path: Path, names: list[str]) -> None:
    try:
        labels = LabelSpace(names)
    except LabelError:
        return
    labels.write(tmp_path / "labels.txt")
    assert LabelSpace.read(tmp_path / "labels.txt") == labels


@often
@given(text=st.text(st.characters(codec=None), max_size=30))
def test_a_printed_problem_holds_nothing_that_a_terminal_acts_on(text: str) -> None:
    shown = str(Problem(text, text, text))
    assert all(sign.isprintable() or sign == "\n" for sign in shown)
