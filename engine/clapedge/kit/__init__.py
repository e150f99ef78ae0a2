"""The edge kit: one archive with everything that a device without network needs, made on a workstation.

It contains an installer, the wheels for one machine and Python, the part of a bundle that the device uses, clips with
their expected scores, a bill of materials and the licences. Of this package, the device runs only `selftest`.
"""
