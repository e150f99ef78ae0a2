"""Live sound to events, for months.

Sound flows one way. A thread (`reader`) reads a source (`sources`) into a bounded `buffer`. The `listener` scores it in
sliding windows and tracks each label (`events.tracker`). Event records go to `sinks`: standard output, a command and,
through a spool on disk, an MQTT broker or a web server. Nothing in it grows with time.
"""
