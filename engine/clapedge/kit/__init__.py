"""The edge kit: one archive with everything that a device without network needs, made on a workstation.

It holds an installer, the wheels of one machine and Python, a bundle cut to what the device uses, clips with the scores
that they have, a list of contents and the licences. pip is asked for wheels as a program of its own; the device runs
`install.sh` and `selftest` alone.
"""
