"""The pen that draws the objects of a scene in a given pose, and the colours it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

# Colours are easier to read as compact tables.
# fmt: off

__all__ = [
    "FUR", "GLASS", "LEAF", "SKIN", "STONE", "VIVID", "WALL", "WOOD",
    "Colour", "Pen", "Point", "Thing", "around", "shade",
]

Colour = tuple[int, int, int]
Point = tuple[float, float]

OVERSAMPLE = 3
"""Lines are drawn larger by this factor and then reduced, which smooths their edges."""

VIVID: tuple[Colour, ...] = (
    (214, 58, 56), (235, 120, 48), (240, 190, 60), (96, 170, 84), (44, 140, 140), (62, 120, 200), (120, 84, 180),
    (222, 96, 150), (240, 240, 236), (70, 76, 96),
)
SKIN: tuple[Colour, ...] = ((248, 214, 184), (226, 176, 136), (176, 120, 82), (116, 76, 52))
FUR: tuple[Colour, ...] = ((150, 98, 56), (214, 172, 112), (84, 62, 50), (236, 226, 208), (120, 116, 116), (52, 48, 52))
LEAF: tuple[Colour, ...] = ((86, 142, 66), (54, 112, 62), (128, 164, 70), (196, 140, 50), (188, 88, 48))
WOOD: tuple[Colour, ...] = ((112, 80, 54), (86, 62, 46), (140, 104, 74))
WALL: tuple[Colour, ...] = ((236, 222, 196), (220, 150, 120), (200, 210, 214), (232, 196, 110), (176, 98, 80))
STONE: tuple[Colour, ...] = ((128, 126, 130), (104, 106, 120), (146, 130, 118), (92, 104, 124))
GLASS: tuple[Colour, ...] = ((178, 214, 232), (90, 112, 140), (250, 222, 130))


@dataclass(frozen=True)
class Thing:
    """How to draw and place one kind of object.

    Fields: draw; place, "sky", "far" (its foot on the horizon), "ground" (its foot below it) or "water"; size, smallest
    and largest side of its box as a share of the image; tilt, largest rotation in degrees; many, largest number of them
    in one image.
    """

    draw: Callable[[Pen], None]
    place: str
    size: tuple[float, float]
    tilt: float = 8
    many: int = 1


class Pen:
    """Draws smooth coloured shapes for one object, in a pose.

    Args:
        radius: half the side of the unit box, in pixels of the finished image.
        angle: rotation in radians; mirror: -1 or 1; squeeze: width over height.
        ink: width of the darker outline, in unit coordinates; 0 for none.
        rng: chooses colours, variants and details.
    """

    def __init__(
        self, radius: float, angle: float, *, rng: np.random.Generator,
        mirror: int = 1, squeeze: float = 1, ink: float = 0,
    ) -> None:
        self.rng, self.ink = rng, ink
        sine, cosine = np.sin(angle), np.cos(angle)
        half = int(np.ceil(radius * 1.1 * (abs(sine) + abs(cosine)) * max(squeeze, 1))) + 2
        self._scale = radius * OVERSAMPLE
        self._matrix = self._scale * np.array([[mirror * squeeze * cosine, mirror * squeeze * sine], [-sine, cosine]])
        self._centre = half * OVERSAMPLE
        self._canvas = Image.new("RGBA", (2 * half * OVERSAMPLE,) * 2)
        self._draw = ImageDraw.Draw(self._canvas)

    def sprite(self) -> Image.Image:
        """The drawing at the size of the finished image: RGBA, square, centred on the box."""
        return self._canvas.reduce(OVERSAMPLE)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        """A uniformly distributed number."""
        return float(self.rng.uniform(low, high))

    def pick(self, colours: Sequence[Colour], spread: int = 14) -> Colour:
        """One of the colours, with each channel changed by at most ``spread``."""
        base = np.asarray(colours[int(self.rng.integers(len(colours)))])
        red, green, blue = np.clip(base + self.rng.integers(-spread, spread + 1, 3), 0, 255)
        return int(red), int(green), int(blue)

    def polygon(self, points: Iterable[Point] | np.ndarray, colour: Colour, *, outline: bool = True) -> None:
        """A filled polygon; its outline is drawn below it, so half the width of the outline is visible."""
        corners = np.asarray(points if isinstance(points, np.ndarray) else list(points)) @ self._matrix + self._centre
        path = corners.ravel().tolist()
        if outline and self.ink:
            self._draw.line(path + path[:4], shade(colour, 0.5), max(1, round(2 * self.ink * self._scale)), "curve")
        self._draw.polygon(path, colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def blob(self, points: Sequence[Point], colour: Colour) -> None:
        """A closed smooth curve through the points (Catmull-Rom)."""
        p1 = np.asarray(points, float)[:, None]
        p0, p2, p3 = (np.roll(p1, shift, axis=0) for shift in (1, -1, -2))
        t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
        curve = 2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3
        self.polygon(curve.reshape(-1, 2) / 2, colour)

    def oval(
        self, x: float, y: float, width: float, height: float, colour: Colour, *, tilt: float = 0, outline: bool = True
    ) -> None:
        """An ellipse with half axes ``width`` and ``height``, rotated by ``tilt`` radians."""
        turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
        self.polygon(CIRCLE * (width, height) @ turn + (x, y), colour, outline=outline)

    def heap(self, ovals: Sequence[tuple[float, float, float, float]], colour: Colour) -> None:
        """Several ovals as one shape, with one outline around all of them."""
        if self.ink:
            for x, y, width, height in ovals:
                self.oval(x, y, width + self.ink, height + self.ink, shade(colour, 0.5), outline=False)
        for x, y, width, height in ovals:
            self.oval(x, y, width, height, colour, outline=False)

    def line(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A stroke with round ends."""
        path = np.asarray(points) @ self._matrix + self._centre
        self._draw.line(path.ravel().tolist(), colour, max(1, round(width * self._scale)), "curve")
        for x, y in (points[0], points[-1]):
            self.oval(x, y, width / 2, width / 2, colour, outline=False)


TURN = np.linspace(0, 2 * np.pi, 36, endpoint=False)
CIRCLE = np.stack([np.cos(TURN), np.sin(TURN)], 1)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour darker (factor below 1) or lighter (above 1)."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def around(count: int, radius: float, *, start: float = 0, x: float = 0, y: float = 0) -> list[Point]:
    """Equally spaced points on a circle."""
    angles = start + 2 * np.pi * np.arange(count) / count
    return [(x + radius * float(np.cos(a)), y + radius * float(np.sin(a))) for a in angles]
