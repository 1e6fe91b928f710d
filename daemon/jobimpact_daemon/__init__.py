"""What runs on a node: read power, split it among jobs, keep it."""
