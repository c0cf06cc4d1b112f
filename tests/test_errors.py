"""Does an error say what, where and what to do, and all of it at once?"""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import pytest

from msrn import errors
from msrn.errors import (
    MAX_SHOWN,
    ConfigError,
    DataError,
    MsrnError,
    Problem,
    ShapeError,
    WeightsError,
    did_you_mean,
    reason,
)


def test_an_error_reads_what_where_and_what_to_do() -> None:
    error = DataError("unknown label 'sofaa'", "train.jsonl, line 214", "did you mean 'sofa'?")
    assert str(error) == "unknown label 'sofaa'\n  at: train.jsonl, line 214\n  hint: did you mean 'sofa'?"
    assert error.problems == (Problem(error.message, error.where, error.hint),)


def test_parts_that_are_not_given_leave_no_line() -> None:
    assert str(ShapeError("too small")) == "too small"
    assert str(ShapeError("too small", hint="use larger images")) == "too small\n  hint: use larger images"
    assert str(ShapeError("too small", "tap 2")) == "too small\n  at: tap 2"


def test_several_problems_come_in_one_error_of_the_kind_asked_for() -> None:
    error = WeightsError.of([Problem("missing a", "w.pth"), Problem("missing b", "", "rename it")], "they do not fit")
    assert type(error) is WeightsError
    assert str(error) == "they do not fit: 2 problems\n- missing a\n    at: w.pth\n- missing b\n    hint: rename it"


def test_a_single_problem_is_raised_as_itself() -> None:
    error = ConfigError.of([Problem("lr is negative", "mine.yaml", "use 0.1")], "the settings do not hold")
    assert (error.message, error.where, error.hint) == ("lr is negative", "mine.yaml", "use 0.1")
    assert "settings do not hold" not in str(error)


@pytest.mark.parametrize("more", [0, 1, 2345])
def test_a_flood_of_problems_is_cut_and_the_rest_is_counted(more: int) -> None:
    problems = [Problem(f"row {row}") for row in range(MAX_SHOWN + more)]
    error = DataError.of(problems, "the table is broken")
    lines = str(error).splitlines()
    assert lines[0] == f"the table is broken: {MAX_SHOWN + more:,} problems"
    assert lines[MAX_SHOWN] == f"- row {MAX_SHOWN - 1}"
    assert lines[MAX_SHOWN + 1 :] == ([f"- and {more:,} more of the same kind"] if more else [])
    assert len(error.problems) == MAX_SHOWN + more


def test_errors_survive_the_way_between_processes() -> None:
    several = DataError.of([Problem("a", "1", "x"), Problem("b", "2")], "broken")
    for error in (several, ShapeError("m", "w", "h")):
        for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(copied) is type(error)
            assert str(copied) == str(error)
            assert copied.problems == error.problems


def test_every_kind_of_error_is_one_of_ours_and_is_drawn_in_the_tree() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    assert len(kinds) == 9
    for kind in kinds:
        assert issubclass(kind, MsrnError)
        assert kind.__name__ in errors.__doc__


def test_the_reason_of_a_system_error_is_its_words_alone(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"\[Errno 2\]") as raised:
        (tmp_path / "gone").read_text()
    assert reason(raised.value) == "No such file or directory"
    assert reason(OSError("a truncated file")) == "a truncated file"
    assert reason(ValueError("no number")) == "no number"


def test_the_nearest_name_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("sofaa", ["chair", "sofa", "sheep"]) == "did you mean 'sofa'?"
    assert did_you_mean("zeppelin", ["chair", "sofa"]) == ""
    assert did_you_mean("sofa", iter(())) == ""
