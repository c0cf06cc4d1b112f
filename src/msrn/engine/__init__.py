"""Runs: training and evaluation."""
