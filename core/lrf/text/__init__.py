"""Texts as tokens and chunks, and their language."""
