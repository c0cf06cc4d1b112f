"""Readers: one module per layout of a data set, listed in ``msrn.registry.READERS``.

A reader is a function ``read(options, root, split, labels)`` that returns a ``Manifest`` and opens no image. ``root``
is the folder of the data set, or empty; ``split`` a split's name, file, folder or pattern; ``labels`` the label space
to bind to, or None for the labels that the split names.
"""
