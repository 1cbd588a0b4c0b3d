"""Measurements of the whole program, one file each; every ratio is measured within one run."""
