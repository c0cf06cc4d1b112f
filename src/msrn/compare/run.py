"""Run the cells of a grid one after another; what is finished is kept, what was interrupted is continued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msrn.compare.cell import CellResult, prepare_cell, read_result
from msrn.compare.folder import claimed, error_in_log, run_process
from msrn.compare.grid import Grid
from msrn.engine.interrupt import Interrupted, stop_requests

__all__ = ["Failure", "run_grid"]

CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Failure:
    """A cell that ended with an error."""

    variant: str
    seed: int
    message: str
    log: Path


def run_grid(
    grid: Grid, folder: Path, *, say: Callable[[str], None] = print
) -> tuple[list[tuple[CellResult, Path]], list[Failure]]:
    """Train and evaluate what is not finished.

    Args:
        grid: the cells.
        folder: new, empty, or of an earlier call; each cell has a folder of its own under ``cells``.
        say: gets one line per cell.

    Returns:
        The results in the order of the cells, each with its folder, and the cells that failed.

    Raises:
        ConfigError: the folder holds something else, or another process runs a grid there.
        Interrupted: SIGINT or SIGTERM came; the cell in hand saved its state.
    """
    results: list[tuple[CellResult, Path]] = []
    failures: list[Failure] = []
    with claimed(folder, CELLS) as lock, stop_requests() as stop:
        for number, cell in enumerate(grid.cells, start=1):
            place = folder / CELLS / cell.folder_name
            title = f"[{number}/{len(grid.cells)}] {cell.variant}, seed {cell.seed}"
            result, note = read_result(place), "known already"
            if result is None:
                prepare_cell(place, cell, grid.evaluate)
                log = place / "log.txt"
                code = run_process("msrn.compare.cell", [str(place)], log=log, lock=lock, stop=stop)
                if stop.is_set():
                    raise Interrupted(folder)
                result = read_result(place)
                if result is None:
                    failures.append(Failure(cell.variant, cell.seed, error_in_log(log, code), log))
                    say(f"{title}: failed, {failures[-1].message}")
                    continue
                note = f"{result.minutes:.1f} minutes"
            results.append((result, place))
            say(f"{title}: mAP {100 * result.mean_ap:.2f} % on {grid.evaluate}, {note}")
    return results, failures
