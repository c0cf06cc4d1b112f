"""Writers: one module per format, listed in ``msrn.registry.WRITERS``.

A writer is a function ``write(options, manifest, path, *, force)``. It writes a manifest to a file or folder, and
returns a line that says what was written. It refuses if the format cannot hold everything that the manifest does.
Existing files are replaced only with ``force``.
"""
