"""Operators that the network is built from."""
