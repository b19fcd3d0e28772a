"""Evidence by vectors: a retriever on Qdrant, embedded or on a server."""
