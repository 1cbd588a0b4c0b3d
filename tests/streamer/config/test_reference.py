"""The shipped files are what the code says."""

import json
from pathlib import Path

import pytest

from streamer.config import load
from streamer.config.reference import json_schema_text, reference

CONFIGS = Path(__file__).parents[3] / "configs"


def test_the_reference_file_is_what_the_models_say() -> None:
    """Renew it with `streamer schema --reference > configs/reference.yaml`."""
    assert (CONFIGS / "reference.yaml").read_text() == reference()


def test_the_schema_file_is_what_the_models_say() -> None:
    """Renew it with `streamer schema > configs/schema.json`."""
    assert (CONFIGS / "schema.json").read_text() == json_schema_text()


def test_the_reference_file_says_nothing_but_defaults(tmp_path: Path) -> None:
    short = tmp_path / "short.yaml"
    short.write_text("cameras: {north: {source: {address: 'rtsp://192.0.2.10:554/stream1'}}}\n")
    assert load(CONFIGS / "reference.yaml").config == load(short).config


def test_the_examples_in_the_reference_file_are_valid_too(tmp_path: Path) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(_with_examples(reference()))
    config = load(file).config
    assert {channel.kind for channel in config.notify.values()} == {"webhook", "mqtt", "apprise"}
    assert config.defaults.outputs.file is not None
    assert config.defaults.outputs.publish is not None


def _with_examples(text: str) -> str:
    """*text* in which each commented example replaces the line before it."""
    lines = text.splitlines()
    result: list[str] = []
    inside: str | None = None
    for line in lines:
        bare = line.strip().removeprefix("#").removeprefix(" ")
        if result and line.strip() == f"# {result[-1].split(':')[0].strip()}:":
            inside = line[: len(line) - len(line.lstrip())]
            result.pop()
        elif not line.strip().startswith("#"):
            inside = None
        result.append(line if inside is None else inside + bare)
    return "\n".join(result) + "\n"


def test_every_key_is_explained() -> None:
    def bare(schema: object, where: str) -> list[str]:
        if not isinstance(schema, dict):
            return []
        missing = [
            f"{where}.{name}"
            for name, value in schema.get("properties", {}).items()
            if "description" not in value and "$ref" not in value  # What it refers to is.
        ]
        return missing + [key for name, value in schema.get("$defs", {}).items()
                          for key in bare(value, name)]  # fmt: skip

    assert bare(json.loads(json_schema_text()), "Config") == []


@pytest.mark.parametrize("name", ["fire-watch.yaml", "night-watch.yaml"])
def test_the_example_works_once_its_address_is_filled_in(name: str) -> None:
    loaded = load(CONFIGS / name, environment={})
    assert loaded.config.cameras
