"""Labels taught by clips: from recordings to kept embeddings, and from those to a place beside the words of a set."""
