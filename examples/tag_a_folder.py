"""Label every image of a folder: one JSON object per line.

python examples/tag_a_folder.py runs/demo/run photos/ > labels.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys

from msrn import MsrnError, Predictor


def main() -> int:
    """Parse, predict, print. Returns 0, 1 if some images could not be read, or 2 for a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="bundle or run folder")
    parser.add_argument("folder", help="folder of images, searched with its subfolders")
    parser.add_argument("--top", type=int, default=5, help="number of labels to list, best first")
    args = parser.parse_args()
    broken = 0
    try:
        predictor = Predictor.load(args.bundle)
        for prediction in predictor.predict([args.folder]):
            row: dict[str, object] = {"image": prediction.source}
            if prediction.error:
                broken += 1
                row["error"] = prediction.error
            else:
                row["labels"] = list(prediction.labels)
                row["best"] = {label: round(probability, 4) for label, probability in prediction.ranked[: args.top]}
            print(json.dumps(row, ensure_ascii=False), flush=True)
    except MsrnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
