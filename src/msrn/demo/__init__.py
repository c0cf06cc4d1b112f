"""The demonstration on drawn scenes."""
