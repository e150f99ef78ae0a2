"""Fewer, better notices: rules say which events are worth an alarm, and a journal why there was one, or none."""
