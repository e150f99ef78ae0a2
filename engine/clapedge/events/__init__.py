"""Scores of windows to events: hysteresis, merging and trimming, for whole recordings and for live sound alike."""
