"""Mono samples to inputs of the audio tower: log-mels, padding, fusion; the 10-second rule lives here alone."""
