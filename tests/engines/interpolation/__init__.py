"""The interpolation room."""
