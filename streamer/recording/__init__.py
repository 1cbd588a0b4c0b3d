"""Recording: packets kept, cut and written without decoding."""
