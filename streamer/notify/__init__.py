"""Delivery: one channel a file, one attempt a call."""
