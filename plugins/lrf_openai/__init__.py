"""Judge and embedder behind any server that speaks OpenAI's API."""
