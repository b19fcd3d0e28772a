"""Built-in pairing rules: best_worst, all_pairs, above_noise, contrast."""
