"""The stages of a run: data, sample, score, pairs, train. Each reads files, writes files, and can be done again."""
