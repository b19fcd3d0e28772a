"""Built-in aggregators: mean, weighted, minimum, gated."""
