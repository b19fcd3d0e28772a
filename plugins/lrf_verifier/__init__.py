"""A small classifier that verifies statements, as a judge: the first of a cascade."""
