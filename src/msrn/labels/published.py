"""Label orders of the four released MSRN checkpoints (arXiv 2106.11596).

A released checkpoint carries no label names. Its outputs stand in the order of its training data, which differs from
the order of the data set's own lists: COCO is alphabetical, NUS-WIDE follows no rule. VOC and Apparel keep theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

__all__ = ["PUBLISHED_ORDERS", "published_label_order"]


def _names(text: str) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(","))


PUBLISHED_ORDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "voc": _names("""
            aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike,
            person, pottedplant, sheep, sofa, train, tvmonitor
        """),
        "coco": _names("""
            airplane, apple, backpack, banana, baseball bat, baseball glove, bear, bed, bench, bicycle, bird, boat,
            book, bottle, bowl, broccoli, bus, cake, car, carrot, cat, cell phone, chair, clock, couch, cow, cup,
            dining table, dog, donut, elephant, fire hydrant, fork, frisbee, giraffe, hair drier, handbag, horse,
            hot dog, keyboard, kite, knife, laptop, microwave, motorcycle, mouse, orange, oven, parking meter, person,
            pizza, potted plant, refrigerator, remote, sandwich, scissors, sheep, sink, skateboard, skis, snowboard,
            spoon, sports ball, stop sign, suitcase, surfboard, teddy bear, tennis racket, tie, toaster, toilet,
            toothbrush, traffic light, train, truck, tv, umbrella, vase, wine glass, zebra
        """),
        "nuswide": _names("""
            clouds, sky, person, street, window, tattoo, wedding, animal, cat, buildings, tree, airport, plane, water,
            grass, cars, road, snow, sunset, railroad, train, flowers, plants, house, military, horses, nighttime, lake,
            rocks, waterfall, sun, vehicle, sports, reflection, temple, statue, ocean, town, beach, tower, toy, book,
            bridge, fire, mountain, rainbow, garden, police, coral, fox, sign, dog, cityscape, sand, dancing, leaf,
            tiger, moon, birds, food, cow, valley, fish, harbor, bear, castle, boats, running, glacier, swimmers, elk,
            frost, protest, soccer, flags, zebra, surf, whales, computer, earthquake, map
        """),
        "apparel": _names("black, blue, brown, green, red, white, dress, pants, shirt, shoes, shorts"),
    }
)
"""Label names in the order of a released checkpoint's outputs, by vocabulary."""


def published_label_order(labels: Iterable[str]) -> tuple[str, ...] | None:
    """The order in which a released checkpoint holds these labels; None where the names are no published vocabulary.

    The vocabulary is recognised by its set of names, so the order of ``labels`` does not matter.

    Example:
        >>> published_label_order(["shoes", "shirt", "shorts", "pants", "dress", *"black blue brown".split(),
        ...                        "green", "red", "white"])[:3]
        ('black', 'blue', 'brown')
    """
    names = list(labels)
    for order in PUBLISHED_ORDERS.values():
        if len(names) == len(order) and set(names) == set(order):
            return order
    return None
