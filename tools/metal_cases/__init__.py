"""Kernels of Metal libraries with arrays and references: tools/metal_runs.py."""
