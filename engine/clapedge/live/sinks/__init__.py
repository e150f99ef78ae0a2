"""Where events go to."""
