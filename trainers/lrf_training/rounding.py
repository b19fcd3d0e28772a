"""What a reward is rounded to. Imports nothing: tokenising doesn't need torch."""

ROUNDING = 1e-6
"""Rewards are stored as float32: 7.1 and 6.6 differ by 0.5."""
