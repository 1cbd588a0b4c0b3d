"""Evidence: the files that are written for an alarm."""
