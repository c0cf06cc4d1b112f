"""Time and memory of reading a COCO file of val2014's size.

The file is generated: 40,504 images and 290,000 objects with outlines of real length, about the size of the original.
It is read in a process of its own, whose peak size is reported.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMAGES, OBJECTS, CATEGORIES, EMPTY = 40_504, 290_000, 80, 367
READ = """
import json, sys, time
from msrn.data.readers.coco import Options, read
began = time.perf_counter()
data = read(Options(), sys.argv[1], "val2014", None)
took = time.perf_counter() - began
with open("/proc/self/status") as status:  # of this program alone, where ru_maxrss may be that of who started it
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"seconds": took, "peak": peak, "images": len(data), "source": data.source}))
"""


def generate(root: Path) -> Path:
    """``annotations/instances_val2014.json`` below ``root``, and its images as empty files."""
    draw = random.Random(0)
    (root / "annotations").mkdir()
    (root / "val2014").mkdir()
    images = []
    for number in range(1, IMAGES + 1):
        name = f"COCO_val2014_{number:012}.jpg"
        (root / "val2014" / name).touch()
        url = f"http://images.cocodataset.org/val2014/{name}"
        images.append({"license": 3, "file_name": name, "coco_url": url, "height": 360, "width": 640, "id": number})
    path = root / "annotations" / "instances_val2014.json"
    with open(path, "w", encoding="utf-8") as file:
        categories = [{"supercategory": "thing", "id": n, "name": f"category {n:02}"} for n in range(1, CATEGORIES + 1)]
        file.write(json.dumps({"info": {}, "images": images, "licenses": [], "categories": categories})[:-1])
        file.write(', "annotations": [')
        for number in range(OBJECTS):
            # Every image but the last few has an object; the rest fall anywhere.
            shown = IMAGES - EMPTY
            image = number + 1 if number < shown else draw.randint(1, shown)
            file.write(", " * (number > 0) + json.dumps(_object(number, image, draw)))
        file.write("]}")
    return path


def _object(number: int, image: int, draw: random.Random) -> dict[str, Any]:
    outline = [round(draw.uniform(0, 640), 2) for _ in range(2 * draw.randint(5, 40))]
    box = [round(draw.uniform(0, 320), 2) for _ in range(4)]
    return {
        "segmentation": [outline],
        "area": round(box[2] * box[3], 4),
        "iscrowd": 0,
        "image_id": image,
        "bbox": box,
        "category_id": draw.randint(1, CATEGORIES),
        "id": number,
    }


def measure() -> list[dict[str, Any]]:
    """The row of the table."""
    with tempfile.TemporaryDirectory() as name:
        path = generate(Path(name))
        size = path.stat().st_size
        output = subprocess.run([sys.executable, "-c", READ, name], check=True, capture_output=True, text=True).stdout
    found = json.loads(output)
    assert found["images"] == IMAGES - EMPTY, found
    what = f"COCO file of val2014's size ({size / 2**20:.0f} MiB, {IMAGES:,} images, {OBJECTS:,} objects), read"
    value = f"{found['seconds']:.1f} s, process of {found['peak'] / 2**20:,.0f} MiB at its largest"
    return [{"what": what, "value": value, "seconds": found["seconds"], "max_seconds": 15.0}]


if __name__ == "__main__":
    for row in measure():
        print(row)
