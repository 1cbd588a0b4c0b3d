"""The overload benchmark, shortened, with the engine that sleeps: real threads and links."""

import pytest

from streamer.app.models import Models
from streamer.bench import overload


@pytest.fixture
def short(monkeypatch):
    for name, value in (
        ("_SLICES", 1), ("_WARM_S", 0.5), ("_MEASURED_S", 1.0), ("_CAPACITY_S", 0.3),
        ("_SLOW_ENGINE_S", 0.02), ("_LOADS", (2.0,)),
    ):  # fmt: skip
        monkeypatch.setattr(overload, name, value)


def test_at_twice_its_capacity_an_engine_still_delivers_in_time_and_every_drop_is_counted(short):
    config = overload._config()
    figures = overload._figures(Models(overload._SlowNetwork()), config)
    assert figures["goodput"]["2"] > 0.7  # Other tests run beside this one.
    assert figures["worst_share"]["2"] > 0.5
    assert figures["p99_age_ms"]["2"] < figures["budget_ms"]
    assert figures["uncounted"] == 0
    assert figures["dropped"]["2"]["superseded"] > 20
