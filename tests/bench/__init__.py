"""Figures, not tests: each prints what it measured on this machine, and asserts nothing about time."""
