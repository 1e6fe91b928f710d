"""The night's steps: each does one thing, and says whether it did. A night run twice changes nothing."""
