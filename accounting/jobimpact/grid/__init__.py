"""Carbon intensity of electricity over time: one file, one source."""
