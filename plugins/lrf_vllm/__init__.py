"""Judge behind a vLLM server: label probabilities, JSON schemas, prefix-cache figures."""
