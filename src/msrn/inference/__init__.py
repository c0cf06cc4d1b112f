"""Using a trained tagger."""
