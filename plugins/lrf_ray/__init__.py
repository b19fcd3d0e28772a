"""Judges, embedders and samplers at work on many machines, by Ray."""
