"""Images inside tar, parquet and Arrow files."""
