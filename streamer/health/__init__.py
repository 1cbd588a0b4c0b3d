"""Health: the status of the whole program as one immutable snapshot, and its metrics."""
