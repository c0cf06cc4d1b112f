"""Compose a scene: choose its objects, place them, and derive the labels from what is visible.

A scene has a kind (a beach, a night, a street ...), which decides the background and the probability of each label:
boats occur with fish, stars with the moon, and the sun with neither of these two. Objects vary in size; they are
rotated, mirrored, partly hidden or cut off by the border, and surrounded by objects that are not labels. An object that
is hidden too much is removed, so a label is present exactly when its object is visible.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops

from msrn.demo.scenes.backdrops import backdrop, finish, rainfall, texture
from msrn.demo.scenes.clutter import CLUTTER
from msrn.demo.scenes.pen import Colour, Pen, Thing
from msrn.demo.scenes.shapes import LABELLED

__all__ = ["LABELS", "SCENES", "Layer", "Scene", "draw_scene", "visible"]

LABELS: tuple[str, ...] = tuple(LABELLED)
"""The labels, in the order of their columns. Each is a word of GloVe."""

STRAY = 0.02
"""Probability of a label that the kind of scene does not list."""

MIN_SEEN, MIN_PIXELS = 0.5, 0.003
"""An object is kept if at least this share of it is visible, and it covers at least this share of the image."""


@dataclass(frozen=True)
class Scene:
    """A kind of scene.

    Fields: skies, colours at the top and at the horizon; ground, one of ``GROUNDS``; horizon, range of its height (0:
    top, 1: bottom); labels, with their probabilities; clutter, names of ``CLUTTER``; weight, frequency of the kind.
    """

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
        {"boat": 0.85, "fish": 0.65, "sun": 0.45, "cloud": 0.45, "bird": 0.4, "mountain": 0.05},
        ("buoy", "kite", "plane", "rock"),
    ),
    "underwater": Scene(
        DEEP, "seabed", (0.06, 0.14), {"fish": 0.95, "boat": 0.4, "person": 0.12},
        ("rock", "leaf", "ball", "mushroom", "bush"),
    ),
    "night": Scene(
        NIGHT, "hills", (0.55, 0.8),
        {"moon": 0.85, "star": 0.85, "tree": 0.35, "house": 0.4, "cloud": 0.15, "mountain": 0.2, "dog": 0.05},
        ("lamp", "rock", "bush", "plane", "tent"), weight=2.5,
    ),
    "park": Scene(
        DAY, "grass", (0.35, 0.6),
        {"tree": 0.8, "flower": 0.4, "person": 0.75, "dog": 0.7, "bird": 0.3, "sun": 0.3, "cloud": 0.2, "balloon": 0.2},
        ("kite", "ball", "bush", "lamp", "butterfly", "mushroom", "leaf"),
    ),
    "street": Scene(
        DAY + DUSK, "road", (0.5, 0.7),
        {"car": 0.9, "house": 0.65, "person": 0.5, "dog": 0.15, "tree": 0.2, "cloud": 0.2, "umbrella": 0.1},
        ("tower", "sign", "lamp", "cart", "flag", "plane"),
    ),
    "rain": Scene(
        RAIN, "road", (0.45, 0.65),
        {"umbrella": 0.85, "cloud": 0.75, "person": 0.65, "car": 0.5, "house": 0.3},
        ("tower", "sign", "lamp", "leaf", "mushroom"),
    ),
    "country": Scene(
        DAY + DUSK, "hills", (0.4, 0.65),
        {"mountain": 0.85, "tree": 0.75, "house": 0.5, "cloud": 0.5, "sun": 0.4, "bird": 0.25, "balloon": 0.15},
        ("tent", "rock", "bush", "kite", "butterfly", "mushroom", "cart"),
    ),
    "beach": Scene(
        DAY + DUSK, "sand", (0.3, 0.45),
        {"umbrella": 0.75, "person": 0.65, "sun": 0.7, "boat": 0.35, "bird": 0.25, "dog": 0.15, "balloon": 0.1},
        ("ball", "tent", "kite", "flag", "rock", "mushroom"),
    ),
    "fair": Scene(
        DAY + DUSK, "plaza", (0.4, 0.65),
        {"balloon": 0.9, "person": 0.75, "flower": 0.3, "dog": 0.2, "sun": 0.1, "car": 0.2},
        ("tent", "flag", "ball", "cart", "lamp", "kite", "butterfly"),
    ),
    "meadow": Scene(
        DAY, "grass", (0.3, 0.55),
        {"flower": 0.95, "bird": 0.65, "tree": 0.25, "sun": 0.4, "cloud": 0.35, "house": 0.1},
        ("butterfly", "mushroom", "bush", "leaf", "rock", "kite"),
    ),
}  # fmt: skip


def draw_scene(seed: int | tuple[int, ...], size: int = 192) -> tuple[Image.Image, tuple[str, ...]]:
    """Draw one scene.

    Args:
        seed: non-negative number or numbers; the same seed and size give the same image.
        size: side of the image, pixels.

    Returns:
        An RGB image, ``size`` x ``size``, and the labels that are visible in it: at least one, in the order of
        ``LABELS``.

    Example:
        >>> image, labels = draw_scene(7, 96)
        >>> image.size
        (96, 96)
    """
    rng = np.random.default_rng(seed)
    weights = np.array([scene.weight for scene in SCENES.values()])
    kind = str(rng.choice(list(SCENES), p=weights / weights.sum()))
    scene = SCENES[kind]
    horizon = float(rng.uniform(*scene.horizon))
    sky = scene.skies[rng.integers(len(scene.skies))]
    image = backdrop(sky, scene.ground, horizon, size, rng, light=0.45 if scene.skies is NIGHT else 1)
    labels: set[str] = set()
    while not labels:
        layers = sorted(plan(scene, horizon, size, rng), key=lambda layer: layer.depth)
        shown = visible(layers, size)
        labels = {layer.label for layer in shown if layer.label}
    for layer in shown:
        image.paste(layer.sprite, layer.corner, layer.sprite)
    if kind == "rain":
        rainfall(image, rng)
    return finish(image, rng), tuple(label for label in LABELS if label in labels)


# Objects: which, where, how large, in what pose, and how much of them is visible.


@dataclass(frozen=True)
class Layer:
    """A placed object: its sprite (RGBA), the top left corner of the sprite in pixels, and how near it is."""

    sprite: Image.Image
    corner: tuple[int, int]
    depth: float
    label: str | None


def plan(scene: Scene, horizon: float, size: int, rng: np.random.Generator) -> Iterator[Layer]:
    """All objects of a scene, visible or not."""
    ink = float(rng.choice([0, 0.025, 0.04]))
    for label, thing in LABELLED.items():
        if rng.random() < scene.labels.get(label, STRAY) and _fits(label, scene):
            for _ in range(_how_many(thing, rng)):
                yield _pose(thing, label, horizon, size, ink, rng)
    for name in rng.choice(scene.clutter, size=min(int(rng.integers(1, 5)), len(scene.clutter)), replace=False):
        thing = CLUTTER[str(name)]
        for _ in range(_how_many(thing, rng)):
            yield _pose(thing, None, horizon, size, ink, rng)


def visible(layers: list[Layer], size: int) -> list[Layer]:
    """The layers, far ones first, without those that nearer layers or the border hide too much."""
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
    """Whether an unlisted label is possible: no sun at night, no moon or star by day."""
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
    """Add light from above and a paper-like grain to a sprite."""
    pixels = np.asarray(sprite).astype(np.float32)
    light = np.linspace(1.1, 0.86, len(pixels), dtype=np.float32)[:, None]
    pixels[..., :3] *= (light + 0.06 * texture("patch", pixels.shape[:2], rng))[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
