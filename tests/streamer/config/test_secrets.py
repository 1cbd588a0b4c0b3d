"""Placeholders, and that nothing secret is ever shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from streamer.config import InvalidConfig, from_source, load
from streamer.config.reference import reference
from streamer.config.secrets import Surroundings, substitute
from streamer.core.errors import ConfigError
from streamer.core.redact import redact_url

SENTINEL = "s3ntinel-7f3a"


def around(folder: Path = Path("/nowhere"), **environment: str) -> Surroundings:
    return Surroundings(environment, folder)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${env:A}", "one"),
        ("x${env:A}y${env:A}", "xoneyone"),
        ("${env:B:-two}", "two"),
        ("${env:EMPTY:-two}", "two"),
        ("${env:EMPTY}", ""),
        ("${env:B:-}", ""),
        ("${env:B:-a:-b}", "a:-b"),
        ("$${env:A}", "${env:A}"),
        ("$", "$"),
        ("pa$$word$1", "pa$$word$1"),
    ],
)
def test_placeholders_are_filled_in(text: str, value: str) -> None:
    assert substitute(text, around(A="one", EMPTY="")) == value


@settings(deadline=None)  # Other work on the machine is no failure.
@given(st.text())
def test_text_without_placeholders_stays_as_it_is(text: str) -> None:
    if "${" not in text:
        assert substitute(text, around()) == text


@settings(deadline=None)  # Other work on the machine is no failure.
@given(st.text())
def test_what_is_filled_in_is_not_filled_in_again(value: str) -> None:
    assert substitute("<${env:A}>", around(A=value)) == f"<{value}>"


@settings(deadline=None)  # Other work on the machine is no failure.
@given(st.text())
def test_any_text_can_be_written_literally(text: str) -> None:
    assert substitute(text.replace("${", "$${"), around()) == text or "$${" in text


@pytest.mark.parametrize(
    "content", [b"abc", b"abc\n", b"abc\n\n", b"abc\r\n", b"\xef\xbb\xbfabc\r\n\r\n"]
)
def test_a_secret_file_lies_beside_the_configuration_and_is_its_one_line(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "token").write_bytes(content)
    assert substitute("${file:token}", around(tmp_path)) == "abc"
    assert substitute(f"${{file:{tmp_path}/token}}", around()) == "abc"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read the file .*token: No such file"),
        (b"\xff\xff", "is not UTF-8 text"),
        (b"x" * 70_000, "is larger than 65536 bytes"),
        (b"first\nsecond\n", "has more than one line"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_reported(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match=expected):
        substitute("${file:token}", around(tmp_path))


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:pass@host:554/a", "rtsp://***@host:554/a"),
        ("rtsp://user:p@ss@host/a", "rtsp://***@host/a"),
        ("rtsp://user:pa/ss@host/a", "rtsp://***@host/a"),
        ("rtsp://user:554/a@host", "rtsp://***"),
        ("http://h/s.jpg?usr=me&pwd=x&size=2", "http://h/s.jpg?usr=***&pwd=***&size=2"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_urls_are_shown_without_user_and_password(address: str, shown: str) -> None:
    assert redact_url(address) == shown
    assert str(from_source(address).config.cameras["camera"].source.address) == shown


@settings(deadline=None)  # Other work on the machine is no failure.
@given(
    st.text(
        st.characters(codec="ascii", exclude_characters=" \"'<>@/?#\n\r\t\v\f\x1c\x1d\x1e\x1f\x0b"),
        min_size=1,
    )
)
def test_no_password_in_a_url_is_shown(password: str) -> None:
    sentinel = f"{SENTINEL}{password}{SENTINEL}"
    assert SENTINEL not in redact_url(f"rtsp://user:{sentinel}@host/stream")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("rtsp://h/1", set()),
        ("/dev/video0", set()),
        ("rtsp://u:p%40s@h/1", {"rtsp://u:p%40s@h/1", "u:p%40s", "p%40s", "p@s"}),
        ("rtsp://u:a/b@h/1", {"rtsp://u:a/b@h/1", "u:a/b", "a/b"}),
        ("http://h/?user=me&pwd=x1", {"http://h/?user=me&pwd=x1", "me", "x1"}),
    ],
)
def test_a_log_knows_which_parts_of_an_address_are_secret(address: str, parts: set[str]) -> None:
    assert from_source(address).secrets() == parts


def test_a_log_hides_what_was_filled_into_an_address_but_not_into_other_texts(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(
        "data_dir: ${env:FOLDER}\n"
        "notify: {m: {kind: webhook, url: 'https://h/${env:HOOK}'}}\n"
        "cameras:\n  a: {source: {address: '${env:URL}'}}\n"
        "  b: {source: {address: 'rtsp://${env:HOST}/1'}}\n"
    )
    environment = {"FOLDER": "/data", "URL": "rtsp://u:pw@h1/1", "HOST": "h2", "HOOK": "h00k"}
    secrets = load(file, environment=environment).secrets()
    address = {"rtsp://u:pw@h1/1", "rtsp://***@h1/1", "u:pw", "pw"}
    assert secrets == {"https://h/h00k", "h00k", "h2"} | address


def test_a_password_that_equals_a_name_makes_neither_names_nor_ids_unreadable(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("cameras: {north: {source: {address: 'rtsp://h/1', user: a, password: north}}}")
    assert "north" not in load(file).secrets()


def _leaves(data: Any, loc: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    if isinstance(data, dict) and data:
        return [leaf for key, value in data.items() for leaf in _leaves(value, (*loc, key))]
    return [loc]


def _full() -> dict[str, Any]:
    """Every key there is, the optional sections and channels included."""
    data: dict[str, Any] = YAML(typ="safe", pure=True).load(reference())
    data["notify"] = {
        "web": {"kind": "webhook", "url": "https://h/x", "secret": "s", "headers": {"A": "b"}},
        "home": {"kind": "mqtt", "host": "h", "user": "u", "password": "p", "base_topic": "t"},
        "mail": {"kind": "apprise", "url": "json://h"},
    }
    data["defaults"]["outputs"] |= {
        "file": {"path": "a.mp4", "preset": "fast"},
        "publish": {"url": "rtsp://h/1", "rate": 5, "preset": "fast"},
    }
    return data


def _with(loc: tuple[str | int, ...], value: Any) -> str:
    data = _full()
    holder: Any = data
    for part in loc[:-1]:
        holder = holder[part]
    holder[loc[-1]] = value
    return json.dumps(data)  # JSON is YAML.


LEAVES = _leaves(_full())


@pytest.mark.parametrize("around_it", ["{}", "rtsp://h/{}/1", "[{}"])
@pytest.mark.parametrize("loc", LEAVES, ids=lambda loc: ".".join(map(str, loc)))
def test_what_a_placeholder_brings_is_never_shown(
    tmp_path: Path, loc: tuple[str | int, ...], around_it: str
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(_with(loc, around_it.format("${env:SECRET}")))
    try:
        loaded = load(file, environment={"SECRET": SENTINEL})
    except InvalidConfig as error:
        shown = f"{error} {error!r} {error.problems} {error.__cause__}"
    else:
        shown = json.dumps(loaded.effective())
    assert SENTINEL not in shown


SECRET = [
    ("preview", "token"),
    ("notify", "web", "secret"),
    ("notify", "web", "headers", "A"),
    ("notify", "home", "password"),
    ("notify", "mail", "url"),
    ("defaults", "source", "password"),
]


@pytest.mark.parametrize("loc", SECRET, ids=lambda loc: ".".join(map(str, loc)))
@pytest.mark.parametrize("value", [SENTINEL, [SENTINEL], {SENTINEL: 1}, {"a": SENTINEL}])
def test_a_plain_secret_is_never_shown(
    tmp_path: Path, loc: tuple[str | int, ...], value: Any
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(_with(loc, value))
    try:
        loaded = load(file)
    except InvalidConfig as error:
        shown = f"{error} {error!r} {error.problems}".replace(f".{SENTINEL}: unknown key", "")
    else:
        assert SENTINEL in loaded.secrets()
        config = loaded.config
        shown = f"{loaded!r} {config} {config!r} {config.model_dump_json()} {loaded.effective()}"
    assert SENTINEL not in shown


@settings(deadline=None)  # Other work on the machine is no failure.
@given(
    st.text(min_size=1).map(lambda text: f"{SENTINEL}{text}"),
    st.sampled_from(
        ["password: {}", "password: *{}", "password: !{} x", "password: '{}", "{}: [", "%{}"]
    ),
)
def test_a_syntax_error_quotes_nothing(tmp_path_factory: Any, secret: str, line: str) -> None:
    file = tmp_path_factory.getbasetemp() / "syntax.yaml"
    file.write_text(
        "cameras:\n  a: {source: {address: x}}\n" + line.format(secret), "utf-8", "replace"
    )
    try:
        load(file)
    except InvalidConfig as error:
        # A key that is unknown is named, so that it can be found.
        reported = [p for p in error.problems if not p.message.startswith("unknown key")]
        assert SENTINEL not in "".join(map(str, reported))
