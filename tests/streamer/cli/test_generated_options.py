"""Options of `streamer convert` are the keys of its model; help imports nothing heavy."""

import subprocess
import sys
from fractions import Fraction

import pytest

from streamer.cli.common import common
from streamer.cli.convert import convert
from streamer.cli.generated_options import expanded_parameters
from streamer.config import load_conversion
from streamer.config.convert import ConvertOptions


def test_every_key_of_the_model_is_an_option_and_none_is_listed_twice():
    names = [one.name for one in expanded_parameters(convert)]
    assert names[-len(ConvertOptions.model_fields) :] == list(ConvertOptions.model_fields)
    assert len(set(names)) == len(names)


def test_a_command_without_a_model_keeps_its_parameters():
    def command(name: str) -> None:
        del name

    assert [one.name for one in expanded_parameters(command)] == ["name"]
    assert "common_json" in common(command).__annotations__


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"factor": "3"}, "factor", 3),
        ({"fps": "60000/1001"}, "fps", Fraction(60_000, 1001)),
        ({"speed": "0.25"}, "speed", Fraction(1, 4)),
        ({"crf": "18.5"}, "crf", 18.5),
        ({"enhance": True}, "enhance", True),
        ({"scene_change": False}, "scene_change", False),
        ({"leave_out": ["3", "1"]}, "leave_out", (3, 1)),
        ({"audio": "stretch"}, "audio", "stretch"),
    ],
)
def test_text_of_an_option_becomes_a_value_of_the_model(given, key, value):
    options, _, warnings = load_conversion((), given)
    assert getattr(options, key) == value
    assert warnings == ()


def test_options_override_the_file_and_old_keys_are_accepted_with_a_warning(tmp_path):
    file = tmp_path / "convert.yaml"
    file.write_text("convert:\n  repeats: across\n  cuts: false\n  crf: 20\n")
    options, _, warnings = load_conversion([file], {"crf": "15"})
    assert (options.duplicates, options.scene_change, options.crf) == ("interpolate", False, 15)
    assert [(warning.line, warning.key) for warning in warnings] == [
        (2, "convert.repeats"),
        (3, "convert.cuts"),
    ]


def test_the_list_of_commands_imports_no_configuration_model():
    code = (
        "import sys, streamer.cli; streamer.cli.main(['--help']);"
        "print(sorted({'pydantic', 'numpy', 'av'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "convert" in done.stdout
