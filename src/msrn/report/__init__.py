"""HTML pages from plain results."""
