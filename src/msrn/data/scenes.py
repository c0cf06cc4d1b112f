"""How does one get a labelled set of pictures out of nothing? Draws scenes whose labels are plain English words.

A scene has a kind (a beach, a night, a street...), which decides the background and how likely each label is: boats come
with fish, stars with the moon, and the sun never with either. Things stand at very different sizes, turned, mirrored,
half hidden and cut off by the border, among other things that are no label. What is hidden too far is taken out of the
picture, so a label is true exactly when its thing can be seen.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from msrn.data.records import Manifest
from msrn.data.scene_shapes import CLUTTER, LABELLED, VIVID, Colour, Pen, Thing
from msrn.errors import DataError

__all__ = ["LABELS", "draw_scene", "read_scenes", "write_scenes"]

LABELS: tuple[str, ...] = tuple(LABELLED)
"""The labels, in the order of their columns. Each is one word of GloVe."""

EDITION = 1
"""Of the drawings: raised whenever the same seed gives another picture, so that old folders are drawn again."""

STRAY = 0.025
"""Chance that a label a kind of scene does not know appears all the same."""

MIN_SEEN, MIN_PIXELS = 0.4, 0.0025
"""A thing stays if this share of it, and this share of the picture, can be seen."""

STAMP = "scenes.json"


@dataclass(frozen=True)
class Scene:
    """A kind of scene: skies (colours from top to horizon), what lies below, where the horizon is, how likely each label
    is, which clutter there may be, and how often the kind is drawn."""

    skies: tuple[tuple[Colour, Colour], ...]
    ground: str
    horizon: tuple[float, float]
    labels: Mapping[str, float]
    clutter: tuple[str, ...]
    weight: float = 1


DAY = (((86, 160, 220), (206, 230, 240)), ((120, 184, 214), (240, 236, 214)), ((150, 176, 196), (216, 222, 226)))
DUSK = (((84, 74, 140), (246, 168, 120)), ((196, 104, 112), (250, 208, 138)), ((60, 80, 130), (232, 150, 150)))
NIGHT = (((14, 18, 48), (52, 62, 110)), ((24, 20, 52), (88, 64, 112)), ((10, 26, 44), (40, 84, 104)))
RAIN = (((96, 108, 126), (168, 176, 184)), ((84, 92, 106), (142, 150, 156)))
DEEP = (((96, 190, 214), (24, 92, 140)), ((60, 150, 160), (18, 70, 96)), ((70, 130, 190), (20, 50, 110)))

SCENES: dict[str, Scene] = {
    "sea": Scene(
        DAY + DUSK, "sea", (0.35, 0.6),
        {"boat": 0.85, "fish": 0.6, "sun": 0.4, "cloud": 0.45, "bird": 0.4, "mountain": 0.15},
        ("buoy", "kite", "plane", "rock"),
    ),
    "underwater": Scene(
        DEEP, "seabed", (0.06, 0.14), {"fish": 0.95, "boat": 0.4, "person": 0.12},
        ("rock", "leaf", "ball", "mushroom", "bush"),
    ),
    "night": Scene(
        NIGHT, "hills", (0.55, 0.8),
        {"moon": 0.8, "star": 0.8, "tree": 0.35, "house": 0.4, "cloud": 0.2, "mountain": 0.25, "dog": 0.1},
        ("lamp", "rock", "bush", "plane", "tent"), weight=2.5,
    ),
    "park": Scene(
        DAY, "grass", (0.35, 0.6),
        {"tree": 0.75, "flower": 0.5, "person": 0.55, "dog": 0.6, "bird": 0.3, "sun": 0.3, "cloud": 0.25, "balloon": 0.2},
        ("kite", "ball", "bush", "lamp", "butterfly", "mushroom", "leaf"),
    ),
    "street": Scene(
        DAY + DUSK, "road", (0.5, 0.7),
        {"car": 0.85, "house": 0.6, "person": 0.5, "dog": 0.25, "tree": 0.25, "cloud": 0.2, "umbrella": 0.1},
        ("tower", "sign", "lamp", "cart", "flag", "plane"),
    ),
    "rain": Scene(
        RAIN, "road", (0.45, 0.65),
        {"umbrella": 0.85, "cloud": 0.75, "person": 0.65, "car": 0.4, "house": 0.3},
        ("tower", "sign", "lamp", "leaf", "mushroom"),
    ),
    "country": Scene(
        DAY + DUSK, "hills", (0.4, 0.65),
        {"mountain": 0.75, "tree": 0.5, "house": 0.4, "cloud": 0.4, "sun": 0.4, "bird": 0.35, "flower": 0.35},
        ("tent", "rock", "bush", "kite", "butterfly", "mushroom", "cart"),
    ),
    "beach": Scene(
        DAY + DUSK, "sand", (0.3, 0.45),
        {"umbrella": 0.7, "person": 0.6, "sun": 0.6, "boat": 0.35, "bird": 0.3, "dog": 0.25},
        ("ball", "tent", "kite", "flag", "rock", "mushroom"),
    ),
    "fair": Scene(
        DAY + DUSK, "plaza", (0.4, 0.65),
        {"balloon": 0.9, "person": 0.6, "flower": 0.35, "dog": 0.3, "sun": 0.15, "car": 0.15, "bird": 0.15},
        ("tent", "flag", "ball", "cart", "lamp", "kite", "butterfly"),
    ),
    "meadow": Scene(
        DAY, "grass", (0.3, 0.55),
        {"flower": 0.9, "bird": 0.45, "tree": 0.3, "sun": 0.35, "cloud": 0.35, "house": 0.15, "dog": 0.2},
        ("butterfly", "mushroom", "bush", "leaf", "rock", "kite"),
    ),
}  # fmt: skip


def draw_scene(seed: int | tuple[int, ...], size: int = 192) -> tuple[Image.Image, tuple[str, ...]]:
    """Draw one scene.

    Args:
        seed: non-negative number or numbers; the same seed and size give the same picture on every machine.
        size: side of the picture, pixels.

    Returns:
        An RGB picture ``size`` x ``size``, and the labels that can be seen in it, at least one, in the order of ``LABELS``.

    Example:
        >>> picture, labels = draw_scene(7, 96)
        >>> picture.size
        (96, 96)
    """
    rng = np.random.default_rng(seed)
    weights = np.array([scene.weight for scene in SCENES.values()])
    kind = str(rng.choice(list(SCENES), p=weights / weights.sum()))
    scene = SCENES[kind]
    horizon = float(rng.uniform(*scene.horizon))
    picture = background(scene, horizon, size, rng)
    labels: set[str] = set()
    while not labels:
        layers = sorted(plan(scene, horizon, size, rng), key=lambda layer: layer.depth)
        shown = visible(layers, size)
        labels = {layer.label for layer in shown if layer.label}
    for layer in shown:
        picture.paste(layer.sprite, layer.corner, layer.sprite)
    if kind == "rain":
        rainfall(picture, rng)
    return finish(picture, rng), tuple(label for label in LABELS if label in labels)


def write_scenes(
    folder: Path,
    *,
    train: int,
    val: int,
    test: int,
    size: int = 192,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Draw a data set into a folder, or leave the folder as it is if it already holds just that.

    Written: ``images/<split>/000000.jpg``; ``train.csv``, ``val.csv``, ``test.csv`` with columns ``image`` (path from
    here) and ``labels`` (joined by ``|``); ``labels.txt``; ``scenes.json``, the settings. The folder appears at once and
    complete. One of scenes drawn with other settings is replaced. Picture ``i`` of split ``s`` grows from
    ``(seed, s, i)``: no two are alike, and a larger set begins with the pictures of a smaller one.

    Args:
        train, val, test: pictures in each split.
        size: side of the pictures, pixels.
        workers: processes that draw.
        progress: called with pictures done and pictures in all.

    Raises:
        DataError: the folder holds something else than scenes.
    """
    folder = Path(folder)
    counts = {"train": train, "val": val, "test": test}
    stamp = {"edition": EDITION, "size": size, "seed": seed, **counts}
    if _holds(folder, stamp):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        fresh = Path(scratch) / "scenes"
        _draw_all(fresh, counts, size=size, seed=seed, workers=workers, progress=progress)
        (fresh / "labels.txt").write_text("\n".join(LABELS) + "\n", encoding="utf-8")
        (fresh / STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.replace(Path(scratch) / "replaced")
        fresh.replace(folder)


def read_scenes(root: Path, split: str) -> Manifest:
    """The ``train``, ``val`` or ``test`` pictures that ``write_scenes`` drew into ``root``.

    Raises:
        DataError: a file of the set is missing or broken.
    """
    from msrn.data.tables import read_table
    from msrn.labels.space import LabelSpace

    return read_table(Path(root) / f"{split}.csv", labels=LabelSpace.read(Path(root) / "labels.txt"))


# Things: which, where, how large, in what pose, and how much of them is seen.


@dataclass(frozen=True)
class Layer:
    """A posed thing: its sprite (RGBA), the sprite's top left corner in pixels, and how near it is (far ones first)."""

    sprite: Image.Image
    corner: tuple[int, int]
    depth: float
    label: str | None


def plan(scene: Scene, horizon: float, size: int, rng: np.random.Generator) -> Iterator[Layer]:
    """Everything a scene would hold, were nothing hidden."""
    ink = float(rng.choice([0, 0.025, 0.04]))
    for label, thing in LABELLED.items():
        if rng.random() < scene.labels.get(label, STRAY) and _fits(label, scene):
            for _ in range(_how_many(thing, rng)):
                yield _pose(thing, label, horizon, size, ink, rng)
    for name in rng.choice(scene.clutter, size=min(int(rng.integers(0, 5)), len(scene.clutter)), replace=False):
        thing = CLUTTER[str(name)]
        for _ in range(_how_many(thing, rng)):
            yield _pose(thing, None, horizon, size, ink, rng)


def visible(layers: list[Layer], size: int) -> list[Layer]:
    """The layers, far ones first, without those of which nearer ones or the border leave too little to see."""
    covered = Image.new("L", (size, size))
    shown: list[Layer] = []
    for layer in reversed(layers):
        mask = Image.new("L", (size, size))
        alpha = layer.sprite.getchannel("A")
        mask.paste(alpha, layer.corner)
        seen = np.asarray(ImageChops.subtract(mask, covered)).sum(dtype=np.int64) / 255
        whole = np.asarray(alpha).sum(dtype=np.int64) / 255
        if seen >= MIN_SEEN * whole and seen >= MIN_PIXELS * size**2:
            covered = ImageChops.lighter(covered, mask)
            shown.append(layer)
    return shown[::-1]


def _fits(label: str, scene: Scene) -> bool:
    """Strays keep the two lights apart: no sun in a night, no moon or star by day."""
    night = scene.skies is NIGHT
    return label != "sun" if night else label not in ("moon", "star")


def _how_many(thing: Thing, rng: np.random.Generator) -> int:
    return int(rng.integers(1, thing.many + 1)) if rng.random() < 0.5 else 1


def _pose(thing: Thing, label: str | None, horizon: float, size: int, ink: float, rng: np.random.Generator) -> Layer:
    low, high = np.log(thing.size)
    side = float(np.exp(low + (high - low) * rng.beta(0.9, 1.6)))
    x, feet = rng.uniform(0.02, 0.98), rng.uniform(horizon + 0.06, 1.06)
    depth = feet
    if thing.place == "far":
        feet, depth = horizon + rng.uniform(0, 0.05), horizon - 1 + rng.uniform(0, 0.1)
    elif thing.place == "sky":
        feet = rng.uniform(0.04, max(0.4, 0.9 * horizon)) + side / 2
        depth = horizon - 0.5 + rng.uniform(0, 1)
        if label in ("sun", "moon", "star"):
            depth = -2
    elif thing.place == "water":
        feet = rng.uniform(horizon + 0.02, 1) + side / 4
    pen = Pen(
        side * size / 2,
        float(np.radians(thing.tilt) * np.clip(rng.normal(0, 0.5), -1, 1)),
        rng=rng,
        mirror=int(rng.choice([-1, 1])),
        squeeze=float(rng.uniform(0.85, 1.15)),
        ink=ink,
    )
    thing.draw(pen)
    sprite = _textured(pen.sprite(), rng)
    corner = round(x * size - sprite.width / 2), round((feet - side / 2) * size - sprite.height / 2)
    return Layer(sprite, corner, float(depth), label)


def _textured(sprite: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Light from above and a paper-like grain, on what is drawn."""
    pixels = np.asarray(sprite).astype(np.float32)
    light = np.linspace(1.1, 0.86, len(pixels), dtype=np.float32)[:, None] + 0.06 * _crop("patch", pixels.shape[:2], rng)
    pixels[..., :3] *= light[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# Backgrounds: a sky, what lies under it, and a texture over both.


def background(scene: Scene, horizon: float, size: int, rng: np.random.Generator) -> Image.Image:
    """The empty scene. Drawn at twice the size and averaged down."""
    high, low = scene.skies[rng.integers(len(scene.skies))]
    canvas = _gradient(high, low, 2 * size, round(2 * size * max(horizon, 0.2)) if scene.ground != "seabed" else 2 * size)
    light = 0.45 if scene.skies is NIGHT else 1
    GROUNDS[scene.ground](ImageDraw.Draw(canvas), canvas, horizon, light, rng)
    pixels = np.asarray(canvas.reduce(2)).astype(np.float32)
    kind = "streak" if scene.ground in ("sea", "seabed") else str(rng.choice(["patch", "cloudy", "streak"]))
    texture = light * rng.uniform(3, 12) * _crop(kind, (size, size), rng) + light * rng.uniform(1, 6) * _crop("grain", (size, size), rng)
    return Image.fromarray((pixels + texture[..., None]).clip(0, 255).astype(np.uint8))


def _gradient(top: Colour, bottom: Colour, side: int, end: int) -> Image.Image:
    mix = np.clip(np.arange(side) / max(end, 1), 0, 1)[:, None]
    column = np.asarray(top) * (1 - mix) + np.asarray(bottom) * mix
    return Image.fromarray(column.astype(np.uint8)[:, None]).resize((side, side), Image.Resampling.NEAREST)


Ground = Callable[[ImageDraw.ImageDraw, Image.Image, float, float, np.random.Generator], None]


def _lie(canvas: Image.Image, top: float, colours: tuple[Colour, Colour], light: float, rng: np.random.Generator, wave: float = 0) -> None:
    """Cover everything below a horizontal or waving edge with a gradient."""
    side = canvas.width
    near, far = (tuple(round(c * light) for c in colour) for colour in colours)
    x = np.linspace(0, 1, 40)
    edge = top + wave * np.sin(x * rng.uniform(3, 9) + rng.uniform(0, 6)) + wave / 2 * np.sin(x * rng.uniform(9, 20))
    mask = Image.new("1", (side, side))
    ImageDraw.Draw(mask).polygon([(0, side), *zip((x * side).tolist(), (edge * side).tolist(), strict=True), (side, side)], 1)
    canvas.paste(_gradient(far, near, side, side), (0, 0), mask)


def _strokes(draw: ImageDraw.ImageDraw, top: float, count: int, length: tuple[float, float], colours: list[Colour], width: int, light: float, rng: np.random.Generator) -> None:
    """Short lines strewn below ``top``, growing towards the viewer: waves, blades, cracks."""
    side = draw.im.size[0]
    y = top + (1.02 - top) * rng.random(count) ** 0.7
    grow = (0.3 + (y - top) / max(1 - top, 0.1)) * side
    x, across, up = rng.random(count) * side, length[0] * grow * rng.uniform(0.4, 1, count), length[1] * grow * rng.uniform(0.4, 1, count)
    which = rng.integers(len(colours), size=count)
    for k in range(count):
        colour = tuple(round(c * light) for c in colours[which[k]])
        draw.line((x[k], y[k] * side, x[k] + across[k], y[k] * side - up[k]), colour, width)


def _sea(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    deep = [((30, 86, 140), (110, 170, 200)), ((24, 104, 120), (120, 190, 190)), ((44, 66, 110), (150, 140, 170))][rng.integers(3)]
    _lie(canvas, horizon, deep, light, rng)
    pale = tuple(min(255, c + 40) for c in deep[1])
    _strokes(draw, horizon, 90, (0.12, 0), [pale, deep[0]], 2, light, rng)


def _seabed(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    side = canvas.width
    rays = Image.new("L", canvas.size)
    pen = ImageDraw.Draw(rays)
    for x in rng.uniform(0, 1, 5) * side:
        pen.polygon([(x, 0), (x + 0.08 * side, 0), (x + 0.1 * side, side), (x - 0.2 * side, side)], 26)
    canvas.paste((255, 255, 255), (0, 0), rays)
    _lie(canvas, rng.uniform(0.8, 0.95), ((150, 130, 90), (120, 140, 130)), light, rng, 0.025)
    for x, y, r in rng.uniform((0, 0, 0.006), (1, 1, 0.02), (18, 3)) * side:
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(200, 232, 240), width=2)


def _grass(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    near, far = [((70, 126, 54), (156, 190, 96)), ((98, 138, 50), (190, 196, 110)), ((52, 116, 76), (140, 186, 130))][rng.integers(3)]
    _lie(canvas, horizon - 0.02, (far, far), 0.85 * light, rng, 0.04)
    _lie(canvas, horizon, (near, far), light, rng, 0.01)
    _strokes(draw, horizon + 0.02, 220, (0.015, 0.07), [near, far, (60, 104, 46)], 2, light, rng)


def _hills(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    colours = [((104, 140, 84), (140, 170, 110)), ((150, 150, 80), (190, 180, 110)), ((110, 130, 130), (150, 170, 160))][rng.integers(3)]
    for step in range(3):
        dim = light * (1.1 - 0.14 * step)
        _lie(canvas, horizon - 0.03 + step * (1 - horizon) * 0.3, colours, dim, rng, 0.03)
    _strokes(draw, horizon + 0.05, 90, (0.02, 0.04), list(colours), 2, light * 0.85, rng)


def _sand(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    _sea(draw, canvas, horizon, light, rng)
    shore = horizon + rng.uniform(0.1, 0.25)
    _lie(canvas, shore - 0.015, ((246, 248, 246), (246, 248, 246)), light, rng, 0.012)
    _lie(canvas, shore, ((236, 208, 150), (222, 190, 136)), light, rng, 0.012)
    _strokes(draw, shore + 0.05, 120, (0.012, 0.004), [(204, 172, 118), (250, 232, 190), (160, 130, 96)], 2, light, rng)


def _skyline(draw: ImageDraw.ImageDraw, horizon: float, rng: np.random.Generator) -> None:
    side = draw.im.size[0]
    grey = rng.integers(90, 170)
    tint = rng.integers(-16, 17, 3)
    x = -0.05
    while x < 1:
        wide, high = rng.uniform(0.07, 0.18), rng.uniform(0.08, 0.42)
        base = int(grey + rng.integers(-20, 20))
        wall = tuple(int(base + t) for t in tint)
        left, top = x * side, (horizon - high) * side
        draw.rectangle((left, top, left + wide * side, horizon * side + 4), wall)
        lit = (250, 224, 150) if rng.random() < 0.4 else tuple(c - 26 for c in wall)
        step = 0.028 * side
        for row in np.arange(top + step, horizon * side, step * 1.3):
            for column in np.arange(left + step * 0.6, left + wide * side - step, step * 1.2):
                if rng.random() < 0.6:
                    draw.rectangle((column, row, column + step * 0.55, row + step * 0.6), lit)
        x += wide * rng.uniform(0.8, 1.3)


def _road(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    side = canvas.width
    _skyline(draw, horizon, rng)
    _lie(canvas, horizon, ((176, 170, 162), (150, 146, 142)), light, rng)
    kerb = horizon + (1 - horizon) * rng.uniform(0.2, 0.45)
    _lie(canvas, kerb, ((84, 86, 92), (110, 112, 116)), light, rng)
    _strokes(draw, kerb, 120, (0.05, 0), [(120, 122, 126), (74, 76, 82)], 1, light, rng)
    middle, shift = (kerb + 1) / 2 * side, rng.uniform(0, 0.2)
    for x in (np.arange(-0.2, 1, 0.24) + shift) * side:
        draw.line((x, middle, x + 0.12 * side, middle), (232, 226, 200), 6)


def _plaza(draw: ImageDraw.ImageDraw, canvas: Image.Image, horizon: float, light: float, rng: np.random.Generator) -> None:
    side = canvas.width
    if rng.random() < 0.5:
        _skyline(draw, horizon, rng)
    _lie(canvas, horizon, ((204, 178, 150), (184, 168, 158)), light, rng)
    for k in range(1, 9):
        y = (horizon + (1 - horizon) * (k / 8) ** 1.6) * side
        draw.line((0, y, side, y), (164, 146, 130), 2)
        for end in ((k - 4.5) * 0.5 + 0.5, (k - 4.5) * 0.9 + 0.5):
            draw.line((((k - 4.5) * 0.12 + 0.5) * side, horizon * side, end * side, side), (172, 152, 136), 2)
    for sag in rng.uniform(0.05, 0.2, 2):
        x = np.linspace(0, 1, 13)
        y = rng.uniform(0.02, 0.2) + sag * 4 * x * (1 - x)
        draw.line(np.stack([x, y], 1).ravel().__mul__(side).tolist(), (90, 84, 90), 2)
        for u, v in np.stack([x, y], 1) * side:
            draw.polygon([(u, v), (u + 0.05 * side, v), (u + 0.025 * side, v + 0.06 * side)], VIVID[rng.integers(9)])


GROUNDS: dict[str, Ground] = {
    "sea": _sea, "seabed": _seabed, "grass": _grass, "hills": _hills, "sand": _sand, "road": _road, "plaza": _plaza,
}  # fmt: skip


@lru_cache(maxsize=1)
def _textures() -> dict[str, np.ndarray]:
    """Noise of several kinds, (512, 512) float32 with mean 0 and deviation 1; pictures take random pieces of it."""
    rng = np.random.default_rng(20)

    def smooth(*grid: int) -> np.ndarray:
        coarse = Image.fromarray(rng.normal(size=grid).astype(np.float32))
        noise = np.asarray(coarse.resize((512, 512), Image.Resampling.BICUBIC))
        return (noise - noise.mean()) / noise.std()

    return {
        "cloudy": (smooth(12, 12) + 0.5 * smooth(32, 32)) / 1.12,
        "patch": (smooth(48, 48) + 0.7 * smooth(120, 120)) / 1.22,
        "streak": (smooth(128, 12) + 0.5 * smooth(256, 40)) / 1.12,
        "grain": rng.normal(size=(512, 512)).astype(np.float32),
    }


def _crop(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    height, width = shape
    texture = _textures()[kind]
    top, left = rng.integers(512 - height % 512), rng.integers(512 - width % 512)
    return np.take(np.take(texture, range(top, top + height), 0, mode="wrap"), range(left, left + width), 1, mode="wrap")


# Weather and the camera.


def rainfall(picture: Image.Image, rng: np.random.Generator) -> None:
    """Thin bright streaks over everything."""
    side = picture.width
    streaks = Image.new("L", picture.size)
    draw, slant = ImageDraw.Draw(streaks), rng.uniform(-0.3, 0.3)
    for x, y, length in rng.uniform((-0.1, -0.1, 0.04), (1.1, 1, 0.12), (70, 3)) * side:
        draw.line((x, y, x + slant * length, y + length), 90)
    picture.paste((235, 240, 246), (0, 0), streaks)


def finish(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A camera's share: brightness, contrast, a tint, a little blur and noise."""
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    pixels = np.asarray(picture).astype(np.float32)
    gain = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
    contrast, middle = rng.uniform(0.8, 1.1), float(pixels.mean())
    pixels = (pixels - middle) * (contrast * gain).astype(np.float32) + (middle * gain).astype(np.float32)
    pixels += rng.uniform(0, 5) * _crop("grain", pixels.shape[:2], rng)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


# Files.


def _draw_all(
    folder: Path, counts: Mapping[str, int], *, size: int, seed: int, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    jobs = [(split, index) for split, count in counts.items() for index in range(count)]
    for split in counts:
        (folder / "images" / split).mkdir(parents=True)
    draw = partial(_draw_one, folder, size, seed, tuple(counts))
    rows: dict[str, list[tuple[str, str]]] = {split: [] for split in counts}
    if workers > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            _collect(pool.map(draw, jobs, chunksize=16), jobs, rows, progress)
    else:
        _collect(map(draw, jobs), jobs, rows, progress)
    for split, pairs in rows.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([("image", "labels"), *pairs])


def _collect(
    drawn: Iterator[tuple[str, str]],
    jobs: list[tuple[str, int]],
    rows: dict[str, list[tuple[str, str]]],
    progress: Callable[[int, int], None] | None,
) -> None:
    for done, ((split, _), row) in enumerate(zip(jobs, drawn, strict=True), 1):
        rows[split].append(row)
        if progress is not None:
            progress(done, len(jobs))


def _draw_one(folder: Path, size: int, seed: int, splits: tuple[str, ...], job: tuple[str, int]) -> tuple[str, str]:
    split, index = job
    picture, labels = draw_scene((seed, splits.index(split), index), size)
    name = f"images/{split}/{index:06d}.jpg"
    picture.save(folder / name, quality=90)
    return name, "|".join(labels)


def _holds(folder: Path, stamp: Mapping[str, int]) -> bool:
    """Whether the folder is the set wanted; raises if replacing it would destroy something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            "expected no folder, an empty one, or a set of drawn scenes; found something else",
            where=str(folder),
            hint="choose another folder, or move this one away",
        ) from None
    images = folder / "images"
    return found == stamp and all(
        (folder / f"{split}.csv").is_file() and sum(1 for _ in (images / split).glob("*.jpg")) == stamp[split]
        for split in ("train", "val", "test")
    )
