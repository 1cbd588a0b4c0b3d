"""Recordings of every kind."""

from tests.support.corpus import recordings

__all__ = ["recordings"]
