"""Heads: feature maps and label inputs in, logits out."""
