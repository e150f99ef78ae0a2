"""Makes clapedge's built-in demo model: synthesised sounds, captions, training."""
