"""One file, one dashboard."""
