"""Backgrounds of drawn scenes (sky, sea, hills, streets), and the effects of weather and camera."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from msrn.demo.scenes.pen import VIVID, Colour, shade

__all__ = ["GROUNDS", "backdrop", "finish", "rainfall", "texture"]


def backdrop(
    sky: tuple[Colour, Colour], ground: str, horizon: float, size: int, rng: np.random.Generator, *, light: float = 1
) -> Image.Image:
    """An empty scene, RGB, ``size`` x ``size``; drawn at twice the size and reduced.

    Args:
        sky: colours at the top and at the horizon.
        ground: one of ``GROUNDS``, below the sky.
        horizon: its height, 0 at the top and 1 at the bottom of the image.
        size: pixels.
        rng: chooses colours and details.
        light: brightness below the sky; less than 1 is darker.
    """
    canvas = _Canvas(2 * size, light, rng)
    canvas.image.paste(_gradient(*sky, canvas.side, 1 if ground == "seabed" else horizon))
    GROUNDS[ground](canvas, horizon)
    kind = "streak" if ground in ("sea", "seabed") else str(rng.choice(["patch", "cloudy", "streak"]))
    noise = rng.uniform(2, 9) * texture(kind, (size, size), rng)
    noise += rng.uniform(1, 6) * texture("grain", (size, size), rng)
    pixels = np.asarray(canvas.image.reduce(2)) + light * noise[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def rainfall(image: Image.Image, rng: np.random.Generator) -> None:
    """Draw thin bright streaks over the whole image."""
    streaks = Image.new("L", image.size)
    draw, slant = ImageDraw.Draw(streaks), rng.uniform(-0.3, 0.3)
    for x, y, length in rng.uniform((-0.1, -0.1, 0.04), (1.1, 1, 0.12), (70, 3)) * image.width:
        draw.line((x, y, x + slant * length, y + length), 90)
    image.paste((235, 240, 246), (0, 0), streaks)


def finish(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Effects of a camera: brightness, contrast, a tint, a little blur and noise."""
    if rng.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
    pixels = np.asarray(image).astype(np.float32)
    gain = (rng.uniform(0.88, 1.22) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    middle = float(pixels.mean())
    pixels = (middle + (pixels - middle) * float(rng.uniform(0.8, 1.1))) * gain
    pixels += float(rng.uniform(0, 5)) * texture("grain", pixels.shape[:2], rng)[..., None]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def texture(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A random part of a texture: ``shape`` (H, W), float32; the whole texture has mean 0 and deviation 1.

    ``kind``: "cloudy", "patch", "streak" (horizontal) or "grain".
    """
    tile = _textures()[kind]
    rows, columns = (rng.integers(len(tile)) + np.arange(length) for length in shape)
    return tile.take(rows, 0, mode="wrap").take(columns, 1, mode="wrap")


@lru_cache(maxsize=1)
def _textures() -> dict[str, np.ndarray]:
    """Tiles (512, 512) of noise, of which each image uses a part: faster than noise drawn for each."""
    rng = np.random.default_rng(20)

    def smooth(*grid: int) -> np.ndarray:
        coarse = np.pad(rng.normal(size=grid).astype(np.float32), 2, mode="wrap")
        frame = (2, 2, grid[1] + 2, grid[0] + 2)
        noise = np.asarray(Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC, box=frame))
        return (noise - noise.mean()) / noise.std()

    return {
        "cloudy": (smooth(12, 12) + 0.5 * smooth(32, 32)) / 1.12,
        "patch": (smooth(48, 48) + 0.7 * smooth(120, 120)) / 1.22,
        "streak": (smooth(128, 12) + 0.5 * smooth(256, 40)) / 1.12,
        "grain": rng.normal(size=(512, 512)).astype(np.float32),
    }


class _Canvas:
    """A square image, with the strokes that grounds are drawn of."""

    def __init__(self, side: int, light: float, rng: np.random.Generator) -> None:
        self.image = Image.new("RGB", (side, side))
        self.draw = ImageDraw.Draw(self.image)
        self.side, self.light, self.rng = side, light, rng

    def cover(self, top: float, far: Colour, near: Colour, *, wave: float = 0) -> None:
        """Cover the area below a straight or wavy edge with a gradient."""
        x, rng = np.linspace(0, 1, 40), self.rng
        y = top + wave * np.sin(x * rng.uniform(3, 9) + rng.uniform(0, 6)) + wave / 2 * np.sin(x * rng.uniform(9, 20))
        edge = (np.stack([x, y], 1) * self.side).ravel().tolist()
        mask = Image.new("1", self.image.size)
        ImageDraw.Draw(mask).polygon([0, self.side, *edge, self.side, self.side], 1)
        self.image.paste(_gradient(shade(far, self.light), shade(near, self.light), self.side, 1), (0, 0), mask)

    def scatter(self, top: float, count: int, across: float, up: float, *colours: Colour, width: int = 2) -> None:
        """Draw short strokes below ``top``, longer ones nearer to the viewer: waves, blades of grass, cracks."""
        x, depth = self.rng.random(count), self.rng.random(count) ** 0.7
        y, length = top + (1.02 - top) * depth, (0.3 + depth) * self.rng.uniform(0.4, 1, count)
        ends = np.stack([x, y, x + across * length, y - up * length], 1) * self.side
        inks = [shade(colour, self.light) for colour in colours]
        for end, which in zip(ends.tolist(), self.rng.integers(len(inks), size=count), strict=True):
            self.draw.line(end, inks[which], width)

    def skyline(self, horizon: float) -> None:
        """Draw blocks of flats on the horizon, some with lit windows."""
        rng, side, left = self.rng, self.side, -0.05 * self.side
        tint = rng.integers(90, 170) + rng.integers(-16, 17, 3)
        step = side / 36
        while left < side:
            wide, top = rng.uniform(0.07, 0.18) * side, (horizon - rng.uniform(0.08, 0.42)) * side
            red, green, blue = (int(channel) for channel in tint + rng.integers(-20, 20))
            self.draw.rectangle((left, top, left + wide, horizon * side + 4), (red, green, blue))
            pane = (250, 224, 150) if rng.random() < 0.4 else shade((red, green, blue), 0.8)
            for y in np.arange(top + step, horizon * side, step * 1.3).tolist():
                for x in np.arange(left + step * 0.6, left + wide - step, step * 1.2).tolist():
                    if rng.random() < 0.6:
                        self.draw.rectangle((x, y, x + step * 0.55, y + step * 0.6), pane)
            left += wide * rng.uniform(0.8, 1.3)


def _gradient(top: Colour, bottom: Colour, side: int, end: float) -> Image.Image:
    """A gradient from one colour at the top to another at the height ``end`` and below."""
    mix = np.clip(np.arange(side) / (end * side), 0, 1)[:, None]
    column = np.asarray(top) * (1 - mix) + np.asarray(bottom) * mix
    return Image.fromarray(column.astype(np.uint8)[:, None]).resize((side, side), Image.Resampling.NEAREST)


# Grounds. Colours come in pairs: far, near.

WATER = (((110, 170, 200), (30, 86, 140)), ((120, 190, 190), (24, 104, 120)), ((150, 140, 170), (44, 66, 110)))
GREEN = (((156, 190, 96), (70, 126, 54)), ((190, 196, 110), (98, 138, 50)), ((140, 186, 130), (52, 116, 76)))
HILLS = (((140, 170, 110), (104, 140, 84)), ((190, 180, 110), (150, 150, 80)), ((150, 170, 160), (110, 130, 130)))


def _sea(canvas: _Canvas, horizon: float) -> None:
    far, near = WATER[canvas.rng.integers(len(WATER))]
    canvas.cover(horizon, far, near)
    canvas.scatter(horizon, 90, 0.12, 0, shade(far, 1.25), near)


def _seabed(canvas: _Canvas, horizon: float) -> None:
    rays, side, rng = Image.new("L", canvas.image.size), canvas.side, canvas.rng
    for x in rng.uniform(0, side, 5):
        ray = [(x, 0), (x + 0.08 * side, 0), (x + 0.1 * side, side), (x - 0.2 * side, side)]
        ImageDraw.Draw(rays).polygon(ray, 26)
    canvas.image.paste((255, 255, 255), (0, 0), rays)
    canvas.cover(rng.uniform(0.8, 0.95), (120, 140, 130), (150, 130, 90), wave=0.025)
    for x, y, r in rng.uniform((0, 0, 0.006), (1, 1, 0.02), (18, 3)) * side:
        canvas.draw.ellipse((x - r, y - r, x + r, y + r), outline=(200, 232, 240), width=2)


def _grass(canvas: _Canvas, horizon: float) -> None:
    far, near = GREEN[canvas.rng.integers(len(GREEN))]
    canvas.cover(horizon - 0.02, shade(far, 0.85), shade(far, 0.85), wave=0.04)
    canvas.cover(horizon, far, near, wave=0.01)
    canvas.scatter(horizon + 0.02, 220, 0.015, 0.07, near, far, (60, 104, 46))


def _hills(canvas: _Canvas, horizon: float) -> None:
    far, near = HILLS[canvas.rng.integers(len(HILLS))]
    for step, dim in enumerate((1.1, 0.96, 0.82)):
        canvas.cover(horizon - 0.03 + step * (1 - horizon) * 0.3, shade(far, dim), shade(near, dim), wave=0.03)
    canvas.scatter(horizon + 0.05, 90, 0.02, 0.04, shade(far, 0.85), shade(near, 0.85))


def _sand(canvas: _Canvas, horizon: float) -> None:
    _sea(canvas, horizon)
    shore = horizon + canvas.rng.uniform(0.1, 0.25)
    canvas.cover(shore - 0.015, (246, 248, 246), (246, 248, 246), wave=0.012)
    canvas.cover(shore, (222, 190, 136), (236, 208, 150), wave=0.012)
    canvas.scatter(shore + 0.05, 120, 0.012, 0.004, (204, 172, 118), (250, 232, 190), (160, 130, 96))


def _road(canvas: _Canvas, horizon: float) -> None:
    canvas.skyline(horizon)
    canvas.cover(horizon, (150, 146, 142), (176, 170, 162))
    kerb = horizon + (1 - horizon) * canvas.rng.uniform(0.2, 0.45)
    canvas.cover(kerb, (110, 112, 116), (84, 86, 92))
    canvas.scatter(kerb, 120, 0.05, 0, (120, 122, 126), (74, 76, 82), width=1)
    y = (kerb + 1) / 2 * canvas.side
    for x in (np.arange(-0.2, 1, 0.24) + canvas.rng.uniform(0, 0.2)) * canvas.side:
        canvas.draw.line((x, y, x + 0.12 * canvas.side, y), (232, 226, 200), 6)


def _plaza(canvas: _Canvas, horizon: float) -> None:
    draw, side, rng = canvas.draw, canvas.side, canvas.rng
    if rng.random() < 0.5:
        canvas.skyline(horizon)
    canvas.cover(horizon, (184, 168, 158), (204, 178, 150))
    for k in range(1, 9):
        y = (horizon + (1 - horizon) * (k / 8) ** 1.6) * side
        draw.line((0, y, side, y), (164, 146, 130), 2)
    for x in np.linspace(-2, 3, 19) * side:
        draw.line(((x - side / 2) * 0.3 + side / 2, horizon * side, x, side), (172, 152, 136), 2)
    for sag in rng.uniform(0.05, 0.2, 2):
        x = np.linspace(0, 1, 13)
        string = np.stack([x, rng.uniform(0.02, 0.2) + sag * 4 * x * (1 - x)], 1) * side
        draw.line(string.ravel().tolist(), (90, 84, 90), 2)
        for u, v in string:
            draw.polygon([(u, v), (u + 0.05 * side, v), (u + 0.025 * side, v + 0.06 * side)], VIVID[rng.integers(9)])


GROUNDS: dict[str, Callable[[_Canvas, float], None]] = {
    "sea": _sea,
    "seabed": _seabed,
    "grass": _grass,
    "hills": _hills,
    "sand": _sand,
    "road": _road,
    "plaza": _plaza,
}
