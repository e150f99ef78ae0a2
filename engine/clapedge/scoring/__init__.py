"""Embeddings of recordings and labels to similarities, probabilities and a decision."""
