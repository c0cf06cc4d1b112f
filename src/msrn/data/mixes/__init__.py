"""Mixing the images of a micro-batch, with their targets: one module per method, by name in the registry.

They act on batches, on the device; what changes one image alone is in ``data.transforms``.
"""
