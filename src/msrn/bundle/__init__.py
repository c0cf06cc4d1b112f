"""What a trained classifier is on disk: written, read and verified."""
