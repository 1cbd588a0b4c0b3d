"""What is shipped is there, opens, and means what the reference means."""

import pytest

from engines.errors import EngineError
from engines.modelfile import read_model_file
from engines.registry import REGISTRY, find, verify


@pytest.mark.parametrize("entry", REGISTRY, ids=lambda entry: entry.name)
def test_every_shipped_network_is_small_and_named(entry):
    model = read_model_file(entry.path)
    assert model.name == entry.name
    assert len(model.content) < 12_000_000
    assert "f32" in entry.tolerances
    assert find(entry.name) is entry


@pytest.mark.parametrize(
    ("entry", "precision"),
    [(entry, precision) for entry in REGISTRY for precision in entry.tolerances],
    ids=lambda value: getattr(value, "name", value),
)
def test_every_shipped_network_is_within_its_tolerance(entry, precision, cpu_precisions):
    if precision not in cpu_precisions:
        pytest.skip(f"this CPU has no {precision}")
    report = verify(entry, device="cpu", precision=precision)
    assert report.passed, report


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EngineError, match="there are: smoke"):
        find("fire")


def test_a_precision_without_a_tolerance_is_refused():
    with pytest.raises(EngineError, match="int4"):
        verify(REGISTRY[0], precision="int4")
