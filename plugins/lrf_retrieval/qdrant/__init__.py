"""The retriever `qdrant`: chunks in a Qdrant, in a folder or on a server."""
