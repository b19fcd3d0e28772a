"""Built-in data sources: JSONL, Parquet, Hugging Face datasets, and LongReward's two-file layout."""
