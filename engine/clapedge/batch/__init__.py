"""Many recordings: their embeddings kept on disk, scored from there, on this machine or on a Ray cluster."""
