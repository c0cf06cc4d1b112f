"""Readers: one module per format, each turns files into a Manifest."""
