"""Grids of runs: heads, losses, backbones and seeds trained alike, and their paired comparison."""
