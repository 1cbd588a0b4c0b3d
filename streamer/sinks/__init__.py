"""Sinks: where frames are used up."""
