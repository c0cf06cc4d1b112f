"""The objects that are the labels of drawn scenes: one function per label.

Each draws in a box from (-1, -1) at the top left to (1, 1) at the bottom right: y points down, and feet are at y = 1.
"""

from __future__ import annotations

import numpy as np

from msrn.demo.scenes.pen import FUR, GLASS, LEAF, SKIN, STONE, VIVID, WALL, WOOD, Pen, Thing, around, shade

# Points and colours are easier to read as compact tables.
# fmt: off

__all__ = ["LABELLED"]


def sun(pen: Pen) -> None:
    colour = pen.pick([(252, 204, 64), (250, 168, 56), (240, 112, 66), (255, 232, 150)])
    count, radius = int(pen.rng.integers(8, 15)), pen.between(0.5, 0.62)
    if pen.chance(0.5):
        for (x, y), (u, v) in zip(around(count, radius * 1.2), around(count, pen.between(0.9, 1)), strict=True):
            pen.line([(x, y), (u, v)], 0.09, colour)
    else:
        spikes = zip(around(count, 1), around(count, radius * 1.05, start=np.pi / count), strict=True)
        pen.polygon([point for pair in spikes for point in pair], shade(colour, 0.94))
    pen.oval(0, 0, radius, radius, colour)
    pen.oval(-0.06, -0.06, radius * 0.75, radius * 0.75, shade(colour, 1.08), outline=False)


def moon(pen: Pen) -> None:
    colour = pen.pick([(246, 236, 190), (226, 232, 242), (250, 218, 150)])
    if pen.chance(0.3):
        pen.oval(0, 0, 0.85, 0.85, colour)
        for _ in range(5):
            x, y, r = pen.between(-0.5, 0.5), pen.between(-0.5, 0.5), pen.between(0.07, 0.2)
            pen.oval(x, y, r, r, shade(colour, 0.86), outline=False)
        return
    bend, angles = pen.between(0.1, 0.6), np.linspace(-np.pi / 2, np.pi / 2, 24)
    outer = np.stack([np.cos(angles), np.sin(angles)], 1)
    pen.polygon(np.concatenate([outer, outer[::-1] * (bend, 1)]) * 0.92 - (0.4, 0), colour)


def star(pen: Pen) -> None:
    colour, depth = pen.pick([(252, 226, 120), (255, 246, 214), (250, 196, 80)]), pen.between(0.38, 0.52)
    count = 5 if pen.chance(0.8) else 4
    tips = zip(around(count, 1, start=-np.pi / 2), around(count, depth, start=np.pi / count - np.pi / 2), strict=True)
    pen.polygon([point for pair in tips for point in pair], colour)


def cloud(pen: Pen) -> None:
    colour = pen.pick([(248, 250, 252), (226, 230, 238), (176, 182, 194), (250, 226, 216)], 6)
    sizes = ((-0.62, 0.3, 0.2), (-0.3, 0.34, 0.36), (0.1, 0.38, 0.44), (0.42, 0.32, 0.32), (0.68, 0.28, 0.2))
    puffs = [(x, 0.3 - high - pen.between(0, 0.2) * (1 - x * x), wide, high) for x, wide, high in sizes]
    pen.heap([*puffs, (0, 0.22, 0.85, 0.14)], shade(colour, 0.9))
    pen.ink = 0
    pen.heap([(x * 0.95, y - 0.05, wide * 0.75, high * 0.75) for x, y, wide, high in puffs], colour)


def tree(pen: Pen) -> None:
    trunk, crown = pen.pick(WOOD), pen.pick(LEAF)
    kind = pen.rng.integers(3)
    if kind == 0:
        pen.polygon([(-0.1, 0), (0.1, 0), (0.16, 1), (-0.16, 1)], trunk)
        puffs = [(x, y - 0.4, pen.between(0.3, 0.42), pen.between(0.28, 0.38)) for x, y in [*around(6, 0.36), (0, 0)]]
        pen.heap(puffs, crown)
        for x, y, w, h in puffs[2:5]:
            pen.oval(x + 0.08, y - 0.08, w * 0.5, h * 0.45, shade(crown, 1.14), outline=False)
    elif kind == 1:
        pen.box(-0.08, 0.6, 0.08, 1, trunk)
        for step in range(3):
            wide, low = 0.62 - 0.14 * step, 0.75 - 0.5 * step
            pen.polygon([(0, low - 0.72), (wide, low), (-wide, low)], shade(crown, 0.8 + 0.12 * step))
    else:
        pen.line([(0.1, 1), (0.02, 0.5), (-0.04, 0), (0, -0.4)], 0.15, trunk)
        for angle in np.linspace(-0.5, np.pi + 0.5, 7):
            x, y = 0.85 * np.cos(angle), -0.45 - 0.45 * np.sin(angle)
            frond = shade(crown, pen.between(0.8, 1.1))
            pen.blob([(0, -0.42), (x * 0.6, y - 0.16), (x, y + 0.2), (x * 0.5, y + 0.06)], frond)


def flower(pen: Pen) -> None:
    petal, leaf = pen.pick([c for c in VIVID if c[1] < 200 or c[0] > 230]), pen.pick(LEAF[:3])
    pen.line([(0.04, 1), (pen.between(-0.1, 0.1), 0.4), (0, -0.3)], 0.09, leaf)
    pen.blob([(0.02, 0.75), (0.3, 0.35), (0.62, 0.3), (0.4, 0.62)], leaf)
    if pen.chance(0.3):
        left = [(-0.42, -0.25), (-0.45, -0.95), (-0.16, -0.6)]
        pen.blob([(0, 0), *left, (0, -1), *((-x, y) for x, y in reversed(left))], petal)
        return
    count = int(pen.rng.integers(5, 10))
    for x, y in around(count, 0.36, y=-0.38, start=pen.between(0, 1)):
        pen.oval(x, y, 0.27, min(0.2, 1.1 / count), petal, tilt=float(np.arctan2(y + 0.38, x)))
    pen.oval(0, -0.38, 0.2, 0.2, pen.pick([(250, 206, 70), (110, 70, 44), (255, 240, 200)]))


def house(pen: Pen) -> None:
    roof = pen.pick([(176, 70, 58), (104, 76, 70), (84, 98, 122), (190, 122, 70)])
    wall, pane = pen.pick(WALL), pen.pick(GLASS)
    top = pen.between(-0.25, 0.1)
    pen.box(0.35, -0.75, 0.55, top, shade(wall, 0.7))
    pen.box(-0.75, top, 0.75, 1, wall)
    peak = pen.between(-0.35, 0.35) if pen.chance(0.6) else 0
    ridge = [(peak, -0.95)] if pen.chance(0.7) else [(-0.5, -0.8), (0.5, -0.8)]
    pen.polygon([(-0.95, top + 0.04), *ridge, (0.95, top + 0.04)], roof)
    door = pen.between(-0.5, 0.2)
    pen.box(door, 0.45, door + 0.3, 1, pen.pick(WOOD))
    for x in (-0.55, 0.25) if pen.chance(0.6) else (-0.55, -0.15, 0.25):
        pen.box(x, top + 0.15, x + 0.28, top + 0.38, pane)
        pen.line([(x + 0.14, top + 0.15), (x + 0.14, top + 0.38)], 0.03, shade(wall, 0.85))


def car(pen: Pen) -> None:
    body, glass = pen.pick(VIVID), pen.pick(GLASS[:2])
    if pen.chance(0.65):
        pen.blob([(-0.6, 0.12), (-0.4, -0.36), (0.1, -0.42), (0.4, -0.3), (0.66, 0.12)], body)
        pen.polygon([(-0.47, 0.04), (-0.33, -0.26), (-0.02, -0.3), (-0.02, 0.04)], glass)
        pen.polygon([(0.06, 0.04), (0.06, -0.3), (0.3, -0.24), (0.52, 0.04)], glass)
        top = [(-0.97, 0.4), (-0.9, 0.06), (-0.5, 0), (0.5, 0.02), (0.92, 0.14), (0.98, 0.42)]
        pen.blob([*top, (0.5, 0.48), (-0.5, 0.48)], body)
    else:
        pen.blob([(-0.95, 0.46), (-0.95, -0.45), (0.45, -0.5), (0.72, -0.05), (0.97, 0.08), (0.97, 0.46)], body)
        for left in (-0.8, -0.35):
            pen.box(left, -0.32, left + 0.36, -0.02, glass)
        pen.polygon([(0.1, -0.32), (0.4, -0.32), (0.58, -0.02), (0.1, -0.02)], glass)
    pen.line([(-0.9, 0.28), (0.9, 0.28)], 0.04, shade(body, 0.75))
    pen.oval(0.9, 0.2, 0.07, 0.07, (255, 240, 180), outline=False)
    for x in (-0.54, 0.54):
        pen.oval(x, 0.48, 0.24, 0.24, (44, 42, 48))
        pen.oval(x, 0.48, 0.11, 0.11, (196, 198, 204), outline=False)


def boat(pen: Pen) -> None:
    hull, sail, wood = pen.pick(VIVID), pen.pick([(250, 248, 240), *VIVID]), pen.pick(WOOD)
    if pen.chance(0.65):
        pen.line([(0, 0.6), (0, -0.95)], 0.07, wood)
        pen.polygon([(0.06, -0.9), (0.06, 0.42), (pen.between(0.6, 0.8), 0.42)], sail)
        pen.polygon([(-0.06, -0.7), (-0.06, 0.42), (-pen.between(0.4, 0.65), 0.42)], shade(sail, 0.9))
    else:
        pen.box(-0.55, 0.02, 0.25, 0.55, (240, 238, 230))
        pen.box(-0.3, -0.4, -0.08, 0.02, sail)
        for x in (-0.42, -0.14, 0.12):
            pen.oval(x, 0.28, 0.08, 0.08, GLASS[1])
    pen.polygon([(-0.95, 0.5), (0.98, 0.5), (0.66, 0.97), (-0.68, 0.97)], hull)
    pen.line([(-0.86, 0.62), (0.88, 0.62)], 0.06, shade(hull, 1.5))


def fish(pen: Pen) -> None:
    body, fin = pen.pick(VIVID), pen.pick(VIVID)
    tall = pen.between(0.3, 0.6)
    pen.polygon([(-0.4, 0), (-0.98, -0.5), (-0.84, 0), (-0.98, 0.5)], fin)
    pen.blob([(-0.2, -tall * 0.6), (0.1, -tall - 0.26), (0.4, -tall * 0.7), (0.1, 0)], fin)
    back = [(-0.2, -tall * 0.8), (0.3, -tall), (0.78, -tall * 0.5)]
    pen.blob([(-0.6, 0), *back, (0.98, 0), *((x, -y) for x, y in reversed(back))], body)
    if pen.chance(0.6):
        for x in (-0.1, 0.25):
            pen.line([(x, -tall * 0.72), (x + 0.07, 0), (x, tall * 0.72)], 0.12, fin)
    pen.blob([(0.2, 0.05), (-0.16, 0.3), (0.1, 0.32)], fin)
    pen.oval(0.68, -0.1, 0.1, 0.1, (250, 250, 250), outline=False)
    pen.oval(0.7, -0.1, 0.055, 0.055, (24, 24, 30), outline=False)


def bird(pen: Pen) -> None:
    body, wing = pen.pick([*VIVID, *FUR]), pen.pick([*VIVID, *FUR])
    beak = pen.pick([(244, 170, 50), (90, 80, 70)])
    if pen.chance(0.5):
        lift = pen.between(-0.9, -0.3)
        far = [(0.05, 0), (-0.1, lift * 0.7), (-0.55, lift - 0.05), (-0.3, lift * 0.5), (-0.35, 0.1)]
        pen.blob(far, shade(wing, 0.75))
        pen.polygon([(-0.4, 0), (-0.98, 0.02), (-0.86, 0.26)], wing)
        pen.blob([(-0.55, 0.12), (0, -0.14), (0.5, -0.2), (0.62, 0.04), (0.2, 0.26)], body)
        pen.blob([(0.2, 0), (0.3, lift * 0.6), (-0.05, lift - 0.05), (0, lift * 0.4), (-0.25, 0.12)], wing)
        head = (0.6, -0.14)
    else:
        for x in (-0.05, 0.15):
            pen.line([(x, 0.5), (x - 0.03, 0.97), (x + 0.12, 0.97)], 0.05, beak)
        pen.polygon([(-0.3, 0.1), (-0.98, 0.45), (-0.9, 0.68), (-0.3, 0.5)], wing)
        pen.blob([(-0.6, 0.3), (-0.1, -0.2), (0.4, -0.5), (0.62, 0.1), (0.25, 0.62), (-0.25, 0.6)], body)
        pen.blob([(0.2, 0), (-0.2, 0), (-0.72, 0.48), (-0.05, 0.42)], wing)
        head = (0.42, -0.45)
    x, y = head
    pen.polygon([(x + 0.16, y - 0.1), (x + 0.46, y + 0.02), (x + 0.16, y + 0.1)], beak)
    pen.oval(x, y, 0.24, 0.22, body)
    pen.oval(x + 0.09, y - 0.05, 0.05, 0.05, (20, 20, 26), outline=False)


def person(pen: Pen) -> None:
    skin, top, legs = pen.pick(SKIN), pen.pick(VIVID), pen.pick([(56, 70, 110), (70, 62, 60), *VIVID])
    hair = pen.pick([(60, 42, 32), (34, 30, 34), (200, 150, 80), (150, 80, 44), (190, 190, 192)])
    stride, swing = pen.between(0.05, 0.3), pen.between(-0.7, 0.5)
    for side in (-1, 1):
        pen.line([(side * 0.1, 0.25), (side * stride, 0.95)], 0.17, legs)
        pen.line([(side * stride, 0.95), (side * stride + 0.1, 0.96)], 0.09, (50, 44, 44))
        reach = swing if side > 0 else pen.between(-0.1, 0.5)
        arm = [(side * 0.2, -0.3), (side * 0.42, (reach - 0.2) / 2), (side * 0.46, reach * 0.7)]
        pen.line(arm, 0.12, shade(top, 0.88))
        pen.oval(side * 0.46, reach * 0.7, 0.075, 0.075, skin, outline=False)
    if pen.chance(0.4):
        pen.polygon([(-0.2, -0.42), (0.2, -0.42), (0.42, 0.5), (-0.42, 0.5)], top)
    else:
        pen.blob([(-0.24, -0.4), (0, -0.46), (0.24, -0.4), (0.22, 0.3), (-0.22, 0.3)], top)
    pen.oval(0, -0.74, 0.25, 0.24, hair)
    pen.oval(0.03, -0.66, 0.21, 0.21, skin, outline=False)
    for x in (-0.03, 0.12):
        pen.oval(x, -0.67, 0.028, 0.035, (40, 34, 36), outline=False)


def dog(pen: Pen) -> None:
    fur = pen.pick(FUR)
    ear = shade(fur, 0.65) if pen.chance(0.6) else pen.pick(FUR)
    tall = pen.between(0.0, 0.25)
    pen.line([(-0.6, 0), (-0.82, -0.2), (-0.9, pen.between(-0.6, 0))], 0.12, fur)
    for x in (-0.5, -0.3, 0.24, 0.44):
        pen.line([(x, 0.2), (x + pen.between(-0.1, 0.1), 0.93)], 0.15, shade(fur, 0.85 if x in (-0.3, 0.24) else 1))
    pen.blob([(-0.7, 0.1), (-0.4, -0.12), (0.2, -0.1), (0.52, -0.05), (0.56, 0.3), (0.1, 0.42), (-0.5, 0.46)], fur)
    if pen.chance(0.4):
        pen.oval(-0.2, 0.1, 0.24, 0.16, ear, outline=False)
    head = [(0.3, -0.3), (0.55, -0.5), (0.75, -0.36), (0.99, -0.22), (0.92, -0.04)]
    pen.blob([*((x, y - tall) for x, y in head), (0.62, 0.04), (0.4, 0.12)], fur)
    if pen.chance(0.6):
        pen.blob([(0.45, -0.46 - tall), (0.26, -0.3 - tall), (0.26, 0.06 - tall), (0.46, -0.1 - tall)], ear)
    else:
        pen.polygon([(0.38, -0.38 - tall), (0.4, -0.78 - tall), (0.62, -0.42 - tall)], ear)
    pen.oval(0.96, -0.2 - tall, 0.06, 0.05, (28, 24, 26), outline=False)
    pen.oval(0.66, -0.28 - tall, 0.045, 0.045, (28, 24, 26), outline=False)


def mountain(pen: Pen) -> None:
    rock, snow = pen.pick(STONE), pen.pick([(248, 250, 254), (226, 234, 246)], 5)
    peaks = [(pen.between(-0.3, 0.1), pen.between(-0.9, -0.6))]
    if pen.chance(0.6):
        peaks.insert(0, (peaks[0][0] + pen.between(0.35, 0.5), pen.between(-0.4, -0.1)))
    for x, y in peaks:
        right = [(x, y), (x + 0.22, y + 0.44), (min(1, x + 0.85), 0.9)]
        pen.polygon([(x - 0.75 * (0.7 - y * 0.3), 0.9), (x - 0.3, y + 0.62), *right], rock)
        pen.polygon([*right, (x + 0.1, 0.9), (x + 0.06, y + 0.5)], shade(rock, 0.8), outline=False)
        cap = [(0, 0), (0.14, 0.28), (0.05, 0.22), (0, 0.36), (-0.07, 0.24), (-0.15, 0.31)]
        pen.polygon([(x + u, y + v) for u, v in cap], snow, outline=False)


def umbrella(pen: Pen) -> None:
    first, second = pen.pick(VIVID), pen.pick(VIVID)
    handle = pen.pick(WOOD)
    pen.line([(0, -0.8), (0, 0.8), (0.05, 0.92), (0.15, 0.94), (0.22, 0.84)], 0.07, handle)
    angles = np.linspace(0, np.pi, 33)
    dome = np.stack([np.cos(angles), -np.sin(angles)], 1) * (0.98, 0.85)
    rim = np.stack([np.linspace(-0.98, 0.98, 33), 0.02 - 0.1 * abs(np.sin(4 * angles))], 1)
    pen.polygon(np.concatenate([dome, rim]), first)
    pen.polygon(np.concatenate([dome * (0.51, 1), rim[8:25]]), second, outline=False)
    pen.polygon(np.concatenate([dome * (0.06, 1), rim[15:18]]), first, outline=False)
    pen.line([(0, -0.85), (0, -0.97)], 0.06, handle)


def balloon(pen: Pen) -> None:
    if pen.chance(0.3):
        first, second = pen.pick(VIVID), pen.pick(VIVID)
        pen.line([(-0.42, 0.2), (-0.14, 0.74)], 0.035, WOOD[1])
        pen.line([(0.42, 0.2), (0.14, 0.74)], 0.035, WOOD[1])
        right = [(0.5, -0.78), (0.66, -0.3), (0.4, 0.22), (0.15, 0.46)]
        pen.blob([(0, -0.98), *right, *((-x, y) for x, y in reversed(right))], first)
        pen.blob([(0, -0.96), (0.22, -0.3), (0.08, 0.44), (-0.08, 0.44), (-0.22, -0.3)], second)
        pen.box(-0.16, 0.7, 0.16, 0.96, pen.pick(WOOD))
        return
    places = [(0.0, -0.42)] if pen.chance(0.6) else [(-0.36, -0.3), (0.38, -0.36), (0, -0.52)]
    wide = 0.5 if len(places) == 1 else 0.36
    for x, y in places:
        colour = pen.pick(VIVID[:9])
        knot = y + wide * 1.16
        string = [(x, knot), (x * 0.5 + pen.between(-0.1, 0.1), 0.6), (pen.between(-0.05, 0.05), 0.98)]
        pen.line(string, 0.03, (90, 90, 96))
        pen.polygon([(x - 0.09, knot + 0.09), (x + 0.09, knot + 0.09), (x, knot - 0.06)], shade(colour, 0.8))
        pen.oval(x, y, wide, wide * 1.14, colour)
        gleam = shade(colour, 1.35)
        pen.oval(x - wide * 0.38, y - wide * 0.45, wide * 0.16, wide * 0.26, gleam, tilt=0.5, outline=False)


LABELLED: dict[str, Thing] = {
    "sun": Thing(sun, "sky", (0.12, 0.42), 180),
    "moon": Thing(moon, "sky", (0.13, 0.4), 50),
    "star": Thing(star, "sky", (0.1, 0.3), 36, 5),
    "cloud": Thing(cloud, "sky", (0.22, 0.65), 4, 3),
    "mountain": Thing(mountain, "far", (0.3, 0.75), 0, 2),
    "house": Thing(house, "ground", (0.15, 0.55), 3, 2),
    "tree": Thing(tree, "ground", (0.15, 0.65), 5, 3),
    "flower": Thing(flower, "ground", (0.1, 0.4), 18, 4),
    "car": Thing(car, "ground", (0.15, 0.6), 6, 2),
    "boat": Thing(boat, "water", (0.14, 0.6), 12, 2),
    "fish": Thing(fish, "water", (0.1, 0.5), 35, 3),
    "bird": Thing(bird, "sky", (0.1, 0.4), 20, 3),
    "person": Thing(person, "ground", (0.16, 0.6), 8, 3),
    "dog": Thing(dog, "ground", (0.13, 0.5), 8, 2),
    "umbrella": Thing(umbrella, "ground", (0.15, 0.5), 40, 2),
    "balloon": Thing(balloon, "sky", (0.13, 0.5), 15, 3),
}
"""Label to object, in the order of the columns."""
