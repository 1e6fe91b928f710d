"""The colours of pages, plots and mails: one name for each use, a value for light and one for dark.

Parts of a node have the hues that Grafana's views give them. Their lightness differs as well, so that people who see
few hues can tell neighbours in a stack apart. Use and embodied are no parts of a node, and have colours of their own.
Every text has at least 4.5:1 against what it stands on.
"""

from __future__ import annotations

from jobimpact.core.records import DomainKind

__all__ = ["DARK", "FILLS", "LIGHT", "TEXTS", "css"]

LIGHT = {
    "paper": "#ffffff",
    "soft": "#f4f6f7",
    "line": "#d9dfe3",
    "ink": "#1a2126",
    "muted": "#545f68",
    "accent": "#0b665e",
    "bad": "#a8281a",
    "bad-soft": "#fdf1ee",
    "good": "#1d6b3a",
    "good-soft": "#eef7f0",
    "cpu": "#18479b",
    "dram": "#b572dc",
    "gpu": "#2f7d32",
    "rest": "#b98a00",
    "node": "#5f6b74",
    "use": "#0e7490",
    "embodied": "#e0762f",
    "gap": "#8a959d",
}
DARK = {
    "paper": "#14181b",
    "soft": "#1d2327",
    "line": "#3a444b",
    "ink": "#e9edef",
    "muted": "#a7b2ba",
    "accent": "#63d2c4",
    "bad": "#ff9e8f",
    "bad-soft": "#33211e",
    "good": "#79d69b",
    "good-soft": "#1b2c22",
    "cpu": "#4f8df0",
    "dram": "#d3aeee",
    "gpu": "#56a64b",
    "rest": "#f2cc0c",
    "node": "#8d99a2",
    "use": "#22a6b8",
    "embodied": "#ffc2a0",
    "gap": "#7d8991",
}
TEXTS = {
    "paper": ("ink", "muted", "accent", "bad", "good"),
    "soft": ("ink", "muted", "accent", "bad", "good"),
    "bad-soft": ("ink", "muted", "bad", "accent"),
    "good-soft": ("ink", "muted", "good", "accent"),
}
"""Which colours text has on which ground."""
FILLS: tuple[DomainKind, ...] = ("cpu", "dram", "gpu", "rest")
"""From the bottom of a stack to its top."""


def css(colours: dict[str, str]) -> str:
    """Custom properties of a style sheet."""
    return " ".join(f"--{name}: {value};" for name, value in colours.items())
