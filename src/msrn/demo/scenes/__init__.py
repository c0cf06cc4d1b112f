"""How does one get a labelled set of pictures out of nothing? Draws scenes whose labels are plain English words.

``pen`` draws strokes and holds the colours, ``shapes`` the things that are labels, ``clutter`` those that are not,
``backdrops`` skies and grounds; ``compose`` poses them in a scene, ``write`` fills a folder.
"""

from msrn.demo.scenes.compose import LABELS, draw_scene
from msrn.demo.scenes.write import write_scenes

__all__ = ["LABELS", "draw_scene", "write_scenes"]
