"""Tag every picture of a folder: one JSON object a line.

python examples/tag_a_folder.py runs/demo/run photos/ > tags.jsonl
"""

from __future__ import annotations

import argparse
import json
import sys

from msrn import MsrnError, Predictor


def main() -> int:
    """Parse, predict, print; 0 if every picture could be read, 1 if some could not, 2 on a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="bundle or run folder")
    parser.add_argument("folder", help="folder of pictures; its subfolders are looked into")
    parser.add_argument("--top", type=int, default=5, help="how many labels to list, best first")
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
