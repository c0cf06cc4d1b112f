"""Data sets: readers and writers, images in archives, splits, and batches for training."""
