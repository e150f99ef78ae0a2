"""This device: what works on it, how fast it is, and which options suit it."""
