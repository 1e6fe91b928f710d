"""Where job records come from: one file, one scheduler."""
