"""Recordings to recordings: what is in one, what is to be made of it, and the proof."""
