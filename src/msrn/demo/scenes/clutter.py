"""Objects of drawn scenes that are not labels; many resemble one: a kite a bird, a lamp the sun.

They are drawn as in ``shapes``.
"""

from __future__ import annotations

import numpy as np

from msrn.demo.scenes.pen import GLASS, LEAF, STONE, VIVID, WALL, WOOD, Pen, Thing, around, shade

# Points and colours are easier to read as compact tables.
# fmt: off

__all__ = ["CLUTTER"]


def kite(pen: Pen) -> None:
    first, second = pen.pick(VIVID), pen.pick(VIVID)
    pen.line([(0, 0.3), (0.2, 0.55), (-0.1, 0.75), (0.1, 0.98)], 0.05, shade(first, 0.7))
    pen.polygon([(0, -0.95), (0.55, -0.35), (0, 0.35), (-0.55, -0.35)], first)
    pen.polygon([(0, -0.95), (0.55, -0.35), (0, -0.35)], second, outline=False)


def plane(pen: Pen) -> None:
    body = pen.pick([(240, 242, 246), *VIVID])
    pen.polygon([(0.1, -0.05), (-0.25, -0.75), (-0.45, -0.72), (-0.25, -0.05)], shade(body, 0.75))
    pen.blob([(-0.95, -0.12), (0, -0.16), (0.7, -0.14), (0.98, 0.02), (0.7, 0.14), (-0.6, 0.1)], body)
    pen.polygon([(-0.7, -0.1), (-0.98, -0.45), (-0.82, -0.45), (-0.45, -0.1)], shade(body, 0.85))
    pen.polygon([(0.15, 0.04), (-0.35, 0.62), (-0.52, 0.6), (-0.2, 0.04)], shade(body, 0.9))


def lamp(pen: Pen) -> None:
    post = pen.pick([(60, 62, 70), (96, 92, 90)])
    pen.line([(0, 0.95), (0, -0.5)], 0.09, post)
    pen.oval(0, -0.64, 0.32, 0.32, pen.pick([(255, 226, 140), (250, 244, 214), (252, 190, 90)]))
    pen.polygon([(-0.3, 1), (0.3, 1), (0.1, 0.85), (-0.1, 0.85)], post)


def ball(pen: Pen) -> None:
    first, second = pen.pick(VIVID), pen.pick([(250, 250, 246), *VIVID])
    pen.oval(0, 0, 0.9, 0.9, first)
    pen.oval(0, 0, 0.4, 0.88, second, outline=False, tilt=0.5)
    pen.oval(0, 0, 0.12, 0.88, first, outline=False, tilt=0.5)


def bush(pen: Pen) -> None:
    places = (-0.55, -0.2, 0.2, 0.55)
    pen.heap([(x, pen.between(0.35, 0.55), 0.36, pen.between(0.35, 0.5)) for x in places], pen.pick(LEAF))


def rock(pen: Pen) -> None:
    colour = pen.pick(STONE)
    top = [(x, pen.between(-0.35, 0.1)) for x in (-0.4, 0, 0.4)]
    pen.polygon([(-0.95, 0.9), (-0.8, 0.3), *top, (0.85, 0.4), (0.97, 0.9)], colour)
    pen.polygon([top[1], top[2], (0.85, 0.4), (0.97, 0.9), (0.2, 0.9)], shade(colour, 0.82), outline=False)


def sign(pen: Pen) -> None:
    pen.line([(0, 0.97), (0, -0.3)], 0.09, (120, 122, 126))
    face, corners = pen.pick(VIVID), (3, 4, 8, 24)[pen.rng.integers(4)]
    pen.polygon(around(corners, 0.5, start=-np.pi / 2, y=-0.45), face)
    pen.polygon(around(corners, 0.34, start=-np.pi / 2, y=-0.45), (246, 246, 240), outline=False)


def mushroom(pen: Pen) -> None:
    cap = pen.pick([(206, 62, 52), (176, 120, 76), (230, 190, 130), *VIVID])
    pen.blob([(-0.2, 0), (0.2, 0), (0.28, 0.95), (-0.28, 0.95)], (240, 230, 208))
    pen.blob([(-0.9, 0.15), (-0.6, -0.5), (0, -0.75), (0.6, -0.5), (0.9, 0.15), (0, 0.22)], cap)
    for x, y in ((-0.4, -0.2), (0.1, -0.45), (0.45, -0.1)):
        pen.oval(x, y, 0.12, 0.1, (250, 244, 232), outline=False)


def leaf(pen: Pen) -> None:
    colour = pen.pick(LEAF)
    pen.blob([(-0.8, 0), (-0.2, -0.42), (0.5, -0.3), (0.98, 0), (0.5, 0.3), (-0.2, 0.42)], colour)
    pen.line([(-0.98, 0.05), (0, 0), (0.8, 0)], 0.05, shade(colour, 0.7))


def tent(pen: Pen) -> None:
    first, second = pen.pick(VIVID), pen.pick(VIVID)
    pen.polygon([(0, -0.7), (0.95, 0.95), (-0.95, 0.95)], first)
    for x in (-0.55, 0.25):
        pen.polygon([(0, -0.7), (x, 0.95), (x + 0.3, 0.95)], second, outline=False)


def cart(pen: Pen) -> None:
    colour = pen.pick([*WOOD, *VIVID])
    pen.line([(0.7, 0.2), (0.98, -0.35)], 0.08, shade(colour, 0.7))
    pen.polygon([(-0.9, -0.1), (0.8, -0.1), (0.66, 0.5), (-0.76, 0.5)], colour)
    for x in (-0.45, 0.4):
        pen.oval(x, 0.6, 0.26, 0.26, (70, 60, 56))
        pen.oval(x, 0.6, 0.14, 0.14, shade(colour, 1.1), outline=False)


def butterfly(pen: Pen) -> None:
    colour, spot = pen.pick(VIVID), pen.pick(VIVID)
    for side in (-1, 1):
        pen.oval(side * 0.48, -0.32, 0.45, 0.42, colour, tilt=side * 0.6)
        pen.oval(side * 0.38, 0.4, 0.32, 0.36, shade(colour, 0.85))
        pen.oval(side * 0.5, -0.32, 0.17, 0.17, spot, outline=False)
    pen.oval(0, 0, 0.09, 0.62, (50, 44, 48))


def buoy(pen: Pen) -> None:
    colour = pen.pick(VIVID[:3])
    pen.polygon([(-0.22, -0.7), (0.22, -0.7), (0.5, 0.5), (-0.5, 0.5)], colour)
    pen.polygon([(-0.33, -0.25), (0.33, -0.25), (0.42, 0.1), (-0.42, 0.1)], (248, 246, 240), outline=False)
    pen.oval(0, 0.55, 0.8, 0.28, shade(colour, 0.8))


def tower(pen: Pen) -> None:
    wall, pane = pen.pick([*STONE, *WALL]), pen.pick(GLASS)
    wide = pen.between(0.3, 0.6)
    pen.box(-wide, -0.9, wide, 1, wall)
    for y in np.arange(-0.75, 0.85, 0.3):
        for x in np.linspace(-wide + 0.08, wide - 0.24, 3):
            lit = pane if pen.chance(0.7) else shade(wall, 0.7)
            pen.polygon([(x, y), (x + 0.15, y), (x + 0.15, y + 0.17), (x, y + 0.17)], lit, outline=False)


def flag(pen: Pen) -> None:
    colour = pen.pick(VIVID)
    pen.line([(-0.5, 0.97), (-0.5, -0.9)], 0.08, (110, 100, 92))
    edge = [(-0.48, -0.88), (0, -0.76), (0.4, -0.9), (0.9, -0.76)]
    pen.blob([*edge, *((x, y + 0.66) for x, y in reversed(edge))], colour)


CLUTTER: dict[str, Thing] = {
    "kite": Thing(kite, "sky", (0.1, 0.3), 60),
    "plane": Thing(plane, "sky", (0.12, 0.35), 20),
    "lamp": Thing(lamp, "ground", (0.2, 0.6), 2),
    "ball": Thing(ball, "ground", (0.08, 0.25), 180),
    "bush": Thing(bush, "ground", (0.15, 0.5), 4, 3),
    "rock": Thing(rock, "ground", (0.12, 0.5), 6, 3),
    "sign": Thing(sign, "ground", (0.15, 0.4), 5),
    "mushroom": Thing(mushroom, "ground", (0.08, 0.3), 10, 2),
    "leaf": Thing(leaf, "sky", (0.07, 0.2), 180, 4),
    "tent": Thing(tent, "ground", (0.2, 0.5), 3),
    "cart": Thing(cart, "ground", (0.15, 0.4), 5),
    "butterfly": Thing(butterfly, "sky", (0.08, 0.22), 40, 3),
    "buoy": Thing(buoy, "water", (0.1, 0.25), 15, 2),
    "tower": Thing(tower, "far", (0.3, 0.7), 0, 3),
    "flag": Thing(flag, "ground", (0.15, 0.45), 6, 2),
}
"""Name to object; the kind of a scene lists those that it may contain."""
