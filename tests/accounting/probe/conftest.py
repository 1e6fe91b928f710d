"""Hypothesis without a deadline: the machine that runs the tests may be busy."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("jobimpact", deadline=None, max_examples=100)
settings.load_profile("jobimpact")
