"""Runs: training and judging."""
