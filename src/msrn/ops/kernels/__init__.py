"""Implementations of semantic attention."""
