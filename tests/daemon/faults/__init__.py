"""Fault recordings with known truth: a simulated node, its faulty meters, and what the books make of them."""
