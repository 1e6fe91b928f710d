"""Ways to read power on a node: one file, one source."""
