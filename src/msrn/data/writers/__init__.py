"""Writers: a Manifest in another format."""
