"""Frames and time: a real-time video processor that watches over forests and nights."""

__version__ = "0.2.0"
