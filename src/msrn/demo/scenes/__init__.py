"""A data set that is drawn: scenes whose labels are English words, written as a table with images.

``pen`` draws strokes and holds the colours; ``shapes`` holds the objects that are labels, ``clutter`` other objects,
``backdrops`` skies and grounds. ``compose`` arranges them in a scene, and ``write`` writes the data set.
"""

from msrn.demo.scenes.compose import LABELS, draw_scene
from msrn.demo.scenes.write import write_scenes

__all__ = ["LABELS", "draw_scene", "write_scenes"]
