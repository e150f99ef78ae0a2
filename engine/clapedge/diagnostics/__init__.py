"""What this device can do: benchmarks and recommendations."""
