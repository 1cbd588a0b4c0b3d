"""The corpus tests itself."""

from .corpus import recordings

__all__ = ["recordings"]
