"""A web server that runs for one test."""

import pytest

from .test_server import serving


@pytest.fixture
def web():
    with serving() as running:
        running.camera()
        yield running
