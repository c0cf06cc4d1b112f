"""Saving figures: the formats, the same file each time, and an old file that survives a failed write."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from msrn.errors import ConfigError
from msrn.visualize.figures import write_figure


def figure(text: str = "boat") -> Figure:
    drawn = Figure(figsize=(2, 1))
    drawn.text(0.5, 0.5, text)
    return drawn


@pytest.mark.parametrize("suffix", [".svg", ".PNG", ".pdf"])
def test_the_same_figure_gives_the_same_file(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "other"):
        write_figure(figure(), tmp_path / "new" / f"{name}{suffix}")
    contents = [path.read_bytes() for path in (tmp_path / "new").iterdir()]
    assert len(contents) == 2
    assert contents[0] == contents[1]


def test_text_stays_text_in_svg(tmp_path: Path) -> None:
    write_figure(figure(), tmp_path / "a.svg")
    assert ">boat</text>" in (tmp_path / "a.svg").read_text(encoding="utf-8")


def test_an_unknown_suffix_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.svg, \.png or \.pdf, got 'graph\.gif'"):
        write_figure(figure(), tmp_path / "graph.gif")
    assert not list(tmp_path.iterdir())


def test_a_figure_that_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "graph.svg"
    path.write_text("old")

    def broken(self: Figure, file: Path, **_: object) -> None:
        Path(file).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="no space"):
        write_figure(figure(), path)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"graph.svg": "old"}


def test_letters_that_the_font_lacks_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        write_figure(figure("猫猫犬"), tmp_path / "a.png")
    assert "lacks 2 letters" in caplog.text
    caplog.clear()
    write_figure(figure("猫"), tmp_path / "a.svg")
    assert not caplog.text
