"""Draw the rooms of the package and their imports: ``python docs/tools/draw_architecture.py`` writes the picture.

Rows are the layers that ``pyproject.toml`` enforces, top floor first. An arrow is an import; arrows that follow from
others are left out (transitive reduction), and so is the ground floor, which every room imports.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

ROOT = Path(__file__).resolve().parents[2]
INK, EDGE, ROOM, GROUND = "#1c2733", "#2f5d8a", "#e8f0f8", "#eef1f4"
LEFT_OUT = {"msrn.__main__"}
GROUND_FLOOR = {f"msrn.{name}" for name in ("config", "registry", "files", "progress", "errors", "presets")}


def main() -> None:
    """Write ``docs/images/architecture.svg``."""
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    rows = [[name.strip() for name in layer.split("|")] for layer in layers if layer not in LEFT_OUT]
    ground = [room for row in rows for room in row if room in GROUND_FLOOR]
    rows = [*(row for row in rows if row[0] not in GROUND_FLOOR), ground]
    graph = grimp.build_graph("msrn")
    rooms = [room for row in rows for room in row]
    members = {room: {room} | graph.find_descendants(room) for room in rooms}
    figure = Figure(figsize=(10, 0.82 * len(rows)), facecolor="white")
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(-len(rows), 0)
    places = {}
    for number, row in enumerate(rows):
        # rooms alone on their floor are set off to alternating sides, so that arrows pass beside them
        shift = (-1.6, 0.0, 1.6, 0.0)[number % 4] if len(row) == 1 else 0.0
        for place, room in enumerate(row):
            step = 2.35 if len(row) < 5 else 1.66
            places[room] = (5 + shift + step * (place - (len(row) - 1) / 2), -number - 0.5)
    uses = {
        one: {
            other
            for other in rooms
            if other not in GROUND_FLOOR | {one}
            and any(graph.find_modules_directly_imported_by(module) & members[other] for module in members[one])
        }
        for one in rooms
    }
    for one, others in uses.items():
        for other in others - _reached(uses, others):
            _arrow(axes, places[one], places[other])
    for room, (x, y) in places.items():
        modules = sum(not graph.find_children(module) for module in members[room])
        color, half = (GROUND, 0.75) if room in GROUND_FLOOR else (ROOM, 0.95)
        axes.add_patch(
            FancyBboxPatch((x - half, y - 0.24), 2 * half, 0.48, boxstyle="round,pad=0.02", fc=color, ec=EDGE, zorder=3)
        )
        axes.text(x, y + 0.05, room.removeprefix("msrn."), ha="center", va="center", fontsize=11, color=INK, zorder=4)
        files = f"{modules} files" if modules > 1 else "1 file"
        axes.text(x, y - 0.14, files, ha="center", va="center", fontsize=7, color=EDGE, zorder=4)
    figure.savefig(ROOT / "docs" / "images" / "architecture.svg", metadata={"Date": None})


def _reached(uses: dict[str, set[str]], rooms: set[str]) -> set[str]:
    """Rooms that these rooms use, directly or through others."""
    found = set().union(*(uses[room] for room in rooms)) if rooms else set()
    return found | _reached(uses, found) if found else found


def _arrow(axes: object, start: tuple[float, float], end: tuple[float, float]) -> None:
    bend = 0.0 if abs(start[1] - end[1]) < 1.5 else 0.12 if start[0] <= end[0] else -0.12
    arrow = FancyArrowPatch(
        (start[0], start[1] - 0.26), (end[0], end[1] + 0.26), arrowstyle="-|>", mutation_scale=9, color=EDGE,
        linewidth=1.2, alpha=0.7, connectionstyle=f"arc3,rad={bend}", zorder=1,
    )  # fmt: skip
    axes.add_patch(arrow)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
