"""Calibration: sounds of a device class turn a bundle into its INT8 variant, with a report of what that costs."""
