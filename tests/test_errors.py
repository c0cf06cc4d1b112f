"""Errors state what is wrong, where and what to do, all problems together."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from msrn.errors import (
    MAX_ALIKE,
    ConfigError,
    DataError,
    Problem,
    ShapeError,
    WeightsError,
    did_you_mean,
    reason,
)


def test_an_error_states_what_where_and_what_to_do() -> None:
    error = DataError("unknown label 'sofaa'", "train.jsonl, line 214", "did you mean 'sofa'?")
    assert str(error) == "unknown label 'sofaa'\n  at: train.jsonl, line 214\n  hint: did you mean 'sofa'?"
    assert error.problems == (Problem(error.message, error.where, error.hint),)


def test_parts_that_are_not_given_leave_no_line() -> None:
    assert str(ShapeError("too small")) == "too small"
    assert str(ShapeError("too small", hint="use larger images")) == "too small\n  hint: use larger images"
    assert str(ShapeError("too small", "tap 2")) == "too small\n  at: tap 2"


def test_several_problems_come_in_one_error_of_the_given_class() -> None:
    error = WeightsError.of([Problem("missing a", "w.pth"), Problem("missing b", "", "rename it")], "they do not fit")
    assert type(error) is WeightsError
    assert str(error) == "they do not fit: 2 problems\n- missing a\n    at: w.pth\n- missing b\n    hint: rename it"


def test_a_single_problem_is_raised_as_itself() -> None:
    error = ConfigError.of([Problem("lr is negative", "mine.yaml", "use 0.1")], "invalid settings")
    assert (error.message, error.where, error.hint) == ("lr is negative", "mine.yaml", "use 0.1")
    assert "invalid settings" not in str(error)


@pytest.mark.parametrize("more", [0, 1, 2345])
def test_many_problems_are_cut_and_the_rest_is_counted(more: int) -> None:
    problems = [Problem(f"row {row}") for row in range(MAX_ALIKE + more)]
    error = DataError.of([*problems, Problem("label 'a' is not a label")], "the table is broken")
    lines = str(error).splitlines()
    assert lines[0] == f"the table is broken: {MAX_ALIKE + more + 1:,} problems"
    assert lines[MAX_ALIKE] == f"- row {MAX_ALIKE - 1}"
    rest = [f"- and {more:,} more like this"] if more else []
    assert lines[MAX_ALIKE + 1 :] == [*rest, "- label 'a' is not a label"]
    assert len(error.problems) == MAX_ALIKE + more + 1


def test_errors_survive_pickling_and_copying() -> None:
    several = DataError.of([Problem("a", "1", "x"), Problem("b", "2")], "broken")
    for error in (several, ShapeError("m", "w", "h")):
        for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(copied) is type(error)
            assert str(copied) == str(error)
            assert copied.problems == error.problems


def test_the_reason_of_a_system_error_is_its_message_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"\[Errno 2\]") as raised:
        (tmp_path / "gone").read_text()
    assert reason(raised.value) == "No such file or directory"
    assert reason(OSError("a truncated file")) == "a truncated file"
    assert reason(ValueError("no number")) == "no number"


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("sofaa", ["chair", "sofa", "sheep"], "sofa"),
        ("baot", ["coat", "boat", "boot"], "boat"),
        ("dgo", ["cat", "dog"], "dog"),
        ("tv", ["cat", "TV"], "TV"),
        ("traffic_light", ["traffic", "traffic light", "light"], "traffic light"),
        ("TrafficLight", ["train", "traffic_light"], "traffic_light"),
        ("--optim.lerning-rate", ["--optim.learning_rate", "--optim.epochs"], "--optim.learning_rate"),
        ("lr", ["data.train", "optim.lr"], "optim.lr"),
        ("--lr", ["--data.train", "--optim.lr"], "--optim.lr"),
        ("glove-6b-50", ["glove-6b-50d", "glove-6b-300d-benchmarks", "onehot"], "glove-6b-50d"),
        ("猫犬", ["猫犬子", "dog"], "猫犬子"),
    ],
)
def test_the_nearest_name_is_offered(name: str, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known) == f"did you mean {expected!r}?"
    assert did_you_mean(name, iter(known)) == f"did you mean {expected!r}?"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("zeppelin", ["chair", "sofa"]),
        ("zeppelin.csv", ["chair.csv"]),
        ("sofa", []),
        ("", ["a", "b"]),
        ("cat", ["dog", "cow"]),
    ],
)
def test_a_name_without_a_similar_one_gets_no_offer(name: str, known: list[str]) -> None:
    assert did_you_mean(name, known) == ""


def test_initials_find_a_short_name() -> None:
    assert did_you_mean("optim.learning_rate", ["optim.name", "optim.lr"]) == "did you mean 'optim.lr'?"


def test_what_a_terminal_could_act_on_is_escaped_when_printed() -> None:
    problem = Problem("label 'a\x1b[2J\u202e\ud800' is odd", "a\0b", "two\nlines")
    assert str(problem) == "label 'a\\x1b[2J\\u202e\\ud800' is odd\n  at: a\\x00b\n  hint: two\nlines"


def test_long_messages_are_cut_and_compared_by_their_start() -> None:
    long = "x" * 1_000_000
    assert str(Problem(long)).endswith("and 996,000 more characters")
    together = str(DataError.of([Problem(f"{n} {long}", hint=str(n) * n) for n in range(40)], "all"))
    assert len(together) < 200_000
    assert "more" in together.splitlines()[-1]
