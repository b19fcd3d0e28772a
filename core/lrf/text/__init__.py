"""Tokens, chunks and the language of texts."""
