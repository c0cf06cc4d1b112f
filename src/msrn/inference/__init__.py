"""Prediction with a trained classifier."""
