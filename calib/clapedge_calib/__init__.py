"""Calibration and evaluation: recordings of a device make an INT8 variant of a bundle, and measure any variant."""
