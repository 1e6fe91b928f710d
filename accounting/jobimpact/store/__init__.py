"""The way to a time-series server: reading its points, setting it up, saying how it does."""
