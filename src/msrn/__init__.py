"""MSRN: multi-label image classification that reads label meaning."""

__version__ = "0.1.0"
