"""Evidence from a sample's documents: retrievers that keep chunks in memory (NumPy) or in Qdrant."""
