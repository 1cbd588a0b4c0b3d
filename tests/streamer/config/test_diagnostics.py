"""What people read when their configuration is wrong."""

from pathlib import Path

import pytest

from streamer.config import InvalidConfig, load

CAMERA = "cameras: {north: {source: {address: 'rtsp://h/1'}}}\n"
HOOK = CAMERA + "notify:\n  hook:\n    kind: webhook\n"
BROKER = CAMERA + "notify:\n  home:\n    kind: mqtt\n"

PUBLISH = (
    ":2: defaults.outputs.publish.url: must begin with rtsp://, rtsps://, rtmp://, rtmps:// or"
    " srt://"
)

# One wrong file and the lines that are reported, after "FILE".
CASES = [
    pytest.param("", [": expected keys such as 'cameras:'"], id="empty"),
    pytest.param("- 1\n", [":1: expected keys such as 'cameras:'"], id="a list"),
    pytest.param(
        "version: 1\n", [": cameras: is missing; expected a section"], id="nothing to watch"
    ),
    pytest.param(
        "cameras: {}\n", [":1: cameras: is empty; expected at least one entry"], id="no camera"
    ),
    pytest.param(
        CAMERA + 'notify:\n  hook: {kind: webhook, url: http://h, headers: {"A\\nB": c}}\n',
        [
            (
                ":3: notify.hook.headers.A\\nB: the name of an HTTP header holds letters, digits"
                " and '-' only"
            )
        ],
        id="a key with a line break",
    ),
    pytest.param(
        "cameras:\n  north:\n    sorce: {address: x}\n    source: {address: x}\n",
        [":3: cameras.north.sorce: unknown key; did you mean 'source'?"],
        id="a misspelt key",
    ),
    pytest.param(
        HOOK + "    url: http://h:65536/?token=hunter2\n",
        [":5: notify.hook.url: its host or port is not valid; a port is 1 to 65535"],
        id="a port that does not exist",
    ),
    pytest.param(
        HOOK + "    url: 'http://:80/x'\n",
        [":5: notify.hook.url: names no host"],
        id="no host",
    ),
    pytest.param(
        HOOK + "    url: 'http://h/a b'\n",
        [":5: notify.hook.url: a URL holds no spaces and no control characters"],
        id="a space in a URL",
    ),
    pytest.param(
        HOOK + "    url: http://h\n    headers:\n      X-Station: Nörd\n",
        [
            (
                ":7: notify.hook.headers.X-Station: the value of an HTTP header holds printable"
                " ASCII characters only, on one line, without spaces at either end"
            )
        ],
        id="a header value that cannot be sent",
    ),
    pytest.param(
        HOOK + "    url: http://h\n    headers:\n      'X Station': a\n",
        [
            (
                ":7: notify.hook.headers.X Station: the name of an HTTP header holds letters,"
                " digits and '-' only"
            )
        ],
        id="a header name that cannot be sent",
    ),
    pytest.param(
        HOOK + "    url: http://h\n    secret: whsec_hunter2!\n",
        [":6: notify.hook.secret: expected base64 behind 'whsec_'"],
        id="a secret that is not what its prefix says",
    ),
    pytest.param(
        BROKER + "    host: mqtt://h:1883\n",
        [
            (
                ":5: notify.home.host: expected a host name or address alone; `port` and `tls` are"
                " other keys"
            )
        ],
        id="a URL for a broker",
    ),
    pytest.param(
        BROKER + "    host: h\n    base_topic: a/#\n",
        [
            (
                ":6: notify.home.base_topic: a topic holds no '#' or '+', and does not begin or end"
                " with '/'"
            )
        ],
        id="a topic with wildcards",
    ),
    pytest.param(
        BROKER + '    host: h\n    base_topic: "a\\tb"\n',
        [":6: notify.home.base_topic: a topic is at most 1024 bytes of printable text"],
        id="a topic with control characters",
    ),
    pytest.param(
        BROKER + "    host: h\n    ca_file: ca.pem\n",
        [":3: notify.home: ca_file and cert_file need `tls: true`"],
        id="certificates without encryption",
    ),
    pytest.param(
        CAMERA + "notify: []\n",
        [":2: notify: expected a section, got a list of 0"],
        id="a list of channels",
    ),
    pytest.param(
        CAMERA + "preview:\n  zzz: 1\n",
        [":3: preview.zzz: unknown key; known here: enabled, host, port, token, allowed_hosts"],
        id="an unknown key",
    ),
    pytest.param(
        "cameras:\n  north:\n    source:\n      user: me\n",
        [":3: cameras.north.source.address: is missing; expected text"],
        id="a missing key",
    ),
    pytest.param(
        CAMERA + "preview:\n  port: 70000\n",
        [":3: preview.port: expected a whole number from 1 to 65535, got 70000"],
        id="out of range",
    ),
    pytest.param(
        CAMERA + "preview:\n  port: many\n",
        [":3: preview.port: expected a whole number from 1 to 65535, got 'many'"],
        id="no number",
    ),
    pytest.param(
        CAMERA + "defaults: {detect: {fps: .nan}}\n",
        [
            ":2: defaults.detect.fps: expected a number from 0.01 to 60, got nan",
        ],
        id="not a number at all",
    ),
    pytest.param(
        CAMERA + "engine: {device: gpu}\n",
        [":2: engine.device: expected auto, cpu, cuda or cuda:N, got 'gpu'"],
        id="none of the choices",
    ),
    pytest.param(CAMERA + "version: 2\n", [":2: version: expected 1, got 2"], id="a later version"),
    pytest.param(
        CAMERA + "preview: 8090\n",
        [
            (
                ":2: preview: expected a section with keys such as enabled, host, port,"
                " got a single value"
            )
        ],
        id="a value for a section",
    ),
    pytest.param(
        CAMERA + "preview:\n  enabled: perhaps\n",
        [":3: preview.enabled: expected true or false, got 'perhaps'"],
        id="neither true nor false",
    ),
    pytest.param(
        "cameras:\n  north: {source: {address: x, user: 7}}\n",
        [":2: cameras.north.source.user: expected text, or null, got 7; put it in quotes"],
        id="a number for text",
    ),
    pytest.param(
        "cameras:\n  north: {source: {address: x, password: 1234}}\n",
        [":2: cameras.north.source.password: expected text, or null, got ***; put it in quotes"],
        id="a number for a password",
    ),
    pytest.param(
        "cameras:\n  no/rth: {source: {address: x}}\n",
        [":2: cameras.no/rth: expected text of letters, digits, '-' and '_', got 'no/rth'"],
        id="a bad name",
    ),
    pytest.param(
        "cameras:\n  north: {source: {address: ' '}}\n",
        [":2: cameras.north.source.address: is empty"],
        id="an empty address",
    ),
    pytest.param(
        CAMERA + "preview: {port: 1}\npreview: {port: 2}\n",
        [":3: preview: repeated; first in line 2"],
        id="a key twice",
    ),
    pytest.param(CAMERA + "preview:\n\tport: 1\n", [":3: a tab; indent with spaces"], id="a tab"),
    pytest.param(
        CAMERA + "log: *nobody\n",
        [
            ":2: not valid YAML: found undefined alias; text with special characters needs quotes",
        ],
        id="an unknown anchor",
    ),
    pytest.param(
        CAMERA + "log: &log\n  level: *log\n",
        [":2: log.level: this anchor contains itself"],
        id="an anchor in itself",
    ),
    pytest.param(
        CAMERA + "log: {level: !secret x}\n",
        [":2: log.level: a tag ('!') means nothing here; put the text in quotes"],
        id="a tag",
    ),
    pytest.param(
        CAMERA + "notify:\n  ops: {kind: fax}\n",
        [":3: notify.ops: expected 'kind' to be one of webhook, mqtt, apprise"],
        id="an unknown channel kind",
    ),
    pytest.param(
        CAMERA + "notify:\n  ops: {kind: mqtt, host: h, pot: 1}\n",
        [":3: notify.ops.pot: unknown key; did you mean 'port'?"],
        id="a misspelt key in a channel",
    ),
    pytest.param(
        CAMERA + "notify: {home: {kind: mqtt, host: h, base_topic: a/#}}\n",
        [
            (
                ":2: notify.home.base_topic: a topic holds no '#' or '+', and does not begin or end"
                " with '/'"
            )
        ],
        id="a topic with a wildcard",
    ),
    pytest.param(
        "notify:\n  ops: {kind: mqtt, host: h}\n"
        "cameras:\n  north: {source: {address: x}, notify:\n    [oops]}\n",
        [":5: cameras.north.notify.0: unknown channel; did you mean 'ops'?"],
        id="an unknown channel",
    ),
    pytest.param(
        CAMERA + "defaults:\n  zones:\n    include: [[[0, 0], [1, 1]]]\n",
        [":4: defaults.zones.include.0: expected a list of at least 3, got a list of 2"],
        id="a polygon of two corners",
    ),
    pytest.param(
        CAMERA + "defaults:\n  zones:\n    include:\n      - [[0, 0], [1, 1], [2, 1]]\n",
        [":5: defaults.zones.include.0.2.0: expected a number from 0 to 1, got 2"],
        id="a corner outside the frame",
    ),
    pytest.param(
        CAMERA + "defaults:\n  zones:\n    exclude:\n      - [[0, 0], [0.5, 0.5], [1, 1]]\n",
        [
            (
                ":5: defaults.zones.exclude.0: the polygon encloses nothing: its points lie on a"
                " line, or its edges cross"
            )
        ],
        id="a polygon without area",
    ),
    pytest.param(
        CAMERA + "defaults:\n  reconnect:\n    initial_s: 30\n",
        [":3: defaults.reconnect: initial_s must be at most max_delay_s, got 30 and 2"],
        id="a wait above its cap",
    ),
    pytest.param(
        CAMERA + "notify: {hook: {kind: webhook, url: 'ftp://h'}}\n",
        [":2: notify.hook.url: must begin with http:// or https://"],
        id="a webhook that is no web address",
    ),
    pytest.param(
        CAMERA + "defaults: {outputs: {publish: {url: 'http://h'}}}\n",
        [PUBLISH],
        id="a stream to no media server",
    ),
    pytest.param(
        CAMERA + "data_dir: ${env:NOWHERE}/x\n",
        [
            (
                ":2: data_dir: the environment variable NOWHERE is not set; set it, or write"
                " ${env:NOWHERE:-default}"
            )
        ],
        id="a variable that is not set",
    ),
    pytest.param(
        CAMERA + "data_dir: ${HOME}/x\n",
        [
            (
                ":2: data_dir: '${HOME}' is neither ${env:NAME}, ${env:NAME:-default} nor"
                " ${file:PATH}; write '$${' for a plain '${'"
            )
        ],
        id="a placeholder of a kind that does not exist",
    ),
    pytest.param(
        CAMERA + "data_dir: ${env:HOME\n",
        [":2: data_dir: '${' is not closed by '}'; write '$${' for a plain '${'"],
        id="a placeholder without an end",
    ),
    pytest.param(
        "preview: {port: 0}\nlog: {level: loud}\ncameras:\n  north: {source: {adress: x}}\n",
        [
            ":1: preview.port: expected a whole number from 1 to 65535, got 0",
            ":2: log.level: expected one of debug, info, warning, error, got 'loud'",
            ":4: cameras.north.source.address: is missing; expected text",
            ":4: cameras.north.source.adress: unknown key; did you mean 'address'?",
        ],
        id="several at once",
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_each_problem_names_file_line_key_and_what_was_expected(
    tmp_path: Path, text: str, expected: list[str]
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load(file, environment={})
    assert str(caught.value).splitlines() == [f"{file}{line}" for line in expected]


def test_a_problem_of_the_defaults_is_reported_once_and_not_for_every_camera(
    tmp_path: Path,
) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text(
        "defaults: {clip: {pre_roll_s: -1}, zones: {include: [[[0, 0], [1], [0, 1]]]}}\n"
        "cameras:\n  a: {source: {address: x}}\n  b: {source: {address: x}}\n"
    )
    with pytest.raises(InvalidConfig) as caught:
        load(file)
    assert [problem.key for problem in caught.value.problems] == [
        "defaults.clip.pre_roll_s",
        "defaults.zones.include.0.1.1",
    ]


def test_a_camera_that_misses_its_address_is_blamed_itself(tmp_path: Path) -> None:
    file = tmp_path / "fire.yaml"
    file.write_text("defaults: {source: {user: u}}\ncameras:\n  a: {enabled: true}\n")
    with pytest.raises(InvalidConfig) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert (problem.key, problem.line) == ("cameras.a.source.address", 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(None, "cannot be read: no such file or directory", id="missing"),
        pytest.param(b"\xff\xfe\x00binary", "is not UTF-8 text", id="binary"),
        pytest.param(b"#" * 2_000_000, "is larger than 1048576 bytes: no configuration", id="huge"),
    ],
)
def test_a_file_that_is_no_configuration_is_reported_without_a_line(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    file = tmp_path / "fire.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidConfig) as caught:
        load(file)
    assert str(caught.value) == f"{file}: {expected}"


def test_the_problems_of_several_files_are_reported_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("preview:\n  port: 0\n" + CAMERA)
    second.write_text("log:\n  level: loud\n")
    with pytest.raises(InvalidConfig) as caught:
        load(first, second)
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        (str(first), 2),
        (str(second), 2),
    ]
