"""Results and events as files and pictures."""
