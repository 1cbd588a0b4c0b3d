"""Recordings of every kind."""

from .corpus import recordings

__all__ = ["recordings"]
