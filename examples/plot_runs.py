"""Draw the validation mAP of several runs by epoch.

python examples/plot_runs.py runs/per-label runs/flatten runs/pool --out curves.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure


def read_curve(folder: Path) -> tuple[list[int], list[float]]:
    """Epochs and validation mAP (per cent) of a run's log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["event"] == "evaluate"]
    return [line["epoch"] for line in evaluations], [100 * line["val_mAP"] for line in evaluations]


def main() -> None:
    """Parse, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders, each with an optional =label")
    parser.add_argument("--out", type=Path, default=Path("curves.png"))
    args = parser.parse_args()
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axis = figure.subplots()
    for run in args.runs:
        path, _, label = str(run).partition("=")
        epochs, scores = read_curve(Path(path))
        axis.plot(epochs, scores, marker="o", label=f"{label or Path(path).name}: {max(scores):.1f}")
    axis.set_xlabel("epoch")
    axis.set_ylabel("validation mAP, %")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(args.out, dpi=130)
    print(args.out)


if __name__ == "__main__":
    main()
