"""Figures: arrays in, matplotlib figures and SVG out."""
