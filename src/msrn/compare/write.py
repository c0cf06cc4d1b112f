"""Write a comparison: JSON, Markdown, figures, and a page that holds all of it."""

from __future__ import annotations

from pathlib import Path

from msrn.compare.plots import draw_cost, draw_differences, draw_intervals
from msrn.compare.table import Comparison, comparison_markdown
from msrn.files import write_atomically, write_json
from msrn.report.page import render_page
from msrn.visualize.figures import inline_svg, write_figure

__all__ = ["write_comparison"]


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write ``comparison.json``, ``.md`` and ``.html``, and the figures, replacing those of an earlier call.

    The figures of differences need a reference that was finished.
    """
    from markupsafe import Markup

    figures = {"cost": (draw_cost, "mAP of each variant against its minutes of training")}
    if any(row.difference is not None for row in comparison.rows):
        figures = {
            "intervals": (draw_intervals, "difference of each variant from the reference, with its interval"),
            **figures,
            "differences": (draw_differences, "difference of each label's AP from the reference"),
        }
    drawn = {}
    for name, (draw, description) in figures.items():
        figure = draw(comparison)
        write_figure(figure, folder / f"{name}.svg")
        drawn[name] = Markup(
            inline_svg(figure, name=name, description=description, colours={"#000000": "currentColor"}, titles={})
        )
    write_json(folder / "comparison.json", comparison.to_json())
    write_atomically(folder / "comparison.md", comparison_markdown(comparison))
    page = render_page("comparison.html", {"comparison": comparison, "figures": drawn})
    write_atomically(folder / "comparison.html", page)
