"""Built-in pairing rules: best_worst, contrast."""
