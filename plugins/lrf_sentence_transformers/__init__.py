"""An embedder of any sentence-transformers model, in this process."""
