"""Listening all day: live sound to events, as it comes.

Sound flows one way. A thread (`reader`) reads a source (`sources`, `pcm`, `network`) into a bounded buffer (`ring`);
the listener (`listener`) takes it out, hears it in sliding windows and tracks each label (`tracking`); events go to
sinks: standard output, a command (`command`), and over a spool on disk to a broker or a server (`mqtt`, `webhook`).
Nothing in it grows with time.
"""
