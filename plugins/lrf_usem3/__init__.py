"""An embedder whose weights come inside a Python package: the multilingual Universal Sentence Encoder."""
