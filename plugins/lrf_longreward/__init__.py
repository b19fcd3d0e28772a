"""The four dimensions of LongReward (arXiv 2410.21252)."""
