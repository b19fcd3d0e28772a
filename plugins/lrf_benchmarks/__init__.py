"""Public benchmarks of judges in their published layouts, people's own labels, and the comparison of two answers."""
