"""Reading files: defaults, several files, paths, digests."""

import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import InvalidConfig, from_source, load
from streamer.config.settings import fill_in, merge

plain = st.recursive(
    st.integers() | st.text(max_size=3) | st.none() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)
mappings = st.dictionaries(st.sampled_from("abcd"), plain, max_size=4)


@settings(deadline=None)  # Other work on the machine is no failure.
@given(mappings)
def test_merging_with_nothing_or_itself_changes_nothing(data: dict[str, Any]) -> None:
    assert merge(data, {}) == data == merge({}, data) == merge(data, data)


@settings(deadline=None)  # Other work on the machine is no failure.
@given(mappings, mappings, mappings)
def test_merging_layers_at_once_or_one_by_one_is_the_same(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    # A value between two mappings cuts the lower one off, in whatever order they are joined.
    if all(isinstance(x.get(key), dict) == isinstance(y.get(key), dict)
           for x in (a, b, c) for y in (a, b, c) for key in {*x} & {*y}):  # fmt: skip
        left, right = merge(merge(a, b), c), merge(a, merge(b, c))
        assert left.keys() == right.keys()


@settings(deadline=None)  # Other work on the machine is no failure.
@given(mappings, mappings)
def test_what_the_upper_layer_says_holds(under: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(under, over)
    assert merged.keys() == under.keys() | over.keys()
    for key, value in over.items():
        assert merged[key] == value or isinstance(value, dict)


@settings(deadline=None)  # Other work on the machine is no failure.
@given(mappings, st.dictionaries(st.sampled_from("xyz"), mappings))
def test_filling_in_defaults_twice_is_filling_them_in_once(
    defaults: dict[str, Any], cameras: dict[str, Any]
) -> None:
    once = fill_in({"defaults": defaults, "cameras": cameras})
    assert fill_in(once) == once


def write(folder: Path, text: str, name: str = "fire.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_camera_has_the_defaults_but_for_what_it_says_itself(tmp_path: Path) -> None:
    cameras = load(
        write(
            tmp_path,
            "defaults: {clip: {pre_roll_s: 5, post_roll_s: 6}, notify: []}\n"
            "cameras:\n"
            "  a: {source: {address: x}}\n"
            "  b: {source: {address: x}, clip: {pre_roll_s: 7}, notify: null}\n",
        )
    ).config.cameras
    assert (cameras["a"].clip.pre_roll_s, cameras["a"].clip.post_roll_s) == (5, 6)
    assert (cameras["b"].clip.pre_roll_s, cameras["b"].clip.post_roll_s) == (7, 6)
    assert (cameras["a"].notify, cameras["b"].notify) == ((), None)


def test_a_later_file_wins_and_adds_cameras(tmp_path: Path) -> None:
    first = write(tmp_path, "log: {level: debug}\ncameras: {a: {source: {address: x}}}\n", "a.yaml")
    second = write(
        tmp_path, "log: {level: error}\ncameras: {b: {source: {address: y}}}\n", "b.yaml"
    )
    config = load(first, second).config
    assert (config.log.level, list(config.cameras)) == ("error", ["a", "b"])


def test_anchors_and_merge_keys_work_as_in_yaml(tmp_path: Path) -> None:
    cameras = load(
        write(
            tmp_path,
            "cameras:\n"
            "  a: &a {source: &s {address: x, timeout_s: 3}, latency_budget_ms: 500}\n"
            "  b: {<<: *a, latency_budget_ms: 600}\n"
            "  c: {source: {<<: [*s], address: y}}\n",
        )
    ).config.cameras
    assert [camera.latency_budget_ms for camera in cameras.values()] == [500, 600, 2000]
    assert [camera.source.timeout_s for camera in cameras.values()] == [3, 3, 3]
    assert str(cameras["c"].source.address).endswith("/y")


def test_values_from_the_environment_may_be_numbers_and_switches(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "preview: {port: '${env:PORT}', enabled: '${env:ON}'}\n"
        "cameras: {a: {source: {address: x}}}\n",
    )
    preview = load(file, environment={"PORT": "8000", "ON": "false"}).config.preview
    assert (preview.port, preview.enabled) == (8000, False)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("clips/a.mp4", "{folder}/clips/a.mp4"),
        ("/a.mp4", "/a.mp4"),
        ("~/a.mp4", "{home}/a.mp4"),
        ("/dev/video0", "/dev/video0"),
        ("rtsp://h/a.mp4", "rtsp://h/a.mp4"),
        ("pattern:", "pattern:"),
        ("file:a.mp4", "file:a.mp4"),
    ],
)
def test_relative_addresses_begin_at_the_folder_of_the_file(
    tmp_path: Path, written: str, read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = load(write(tmp_path, f"cameras: {{a: {{source: {{address: '{written}'}}}}}}\n")).config
    address = config.cameras["a"].source.address.get_secret_value()
    assert address == read.format(folder=tmp_path, home="/home/me")


def test_each_relative_path_begins_at_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", "data_dir: d\nengine: {model: m.onnx}\n")
    write(tmp_path / "b", "cameras: {a: {source: {address: x}}}\n")
    monkeypatch.chdir(tmp_path)
    config = load("a/fire.yaml", "b/fire.yaml").config
    assert config.data_dir == tmp_path / "a" / "d"
    assert config.engine.model == f"{tmp_path}/a/m.onnx"
    assert str(config.cameras["a"].source.address) == f"{tmp_path}/b/x"


def test_the_data_folder_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert from_source("x").config.data_dir == Path("/home/me/.local/share/streamer")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert from_source("x").config.data_dir == Path("/data/streamer")


def test_a_source_alone_is_a_whole_configuration() -> None:
    loaded = from_source("rtsp://u:p@h/1")
    assert list(loaded.config.cameras) == ["camera"]
    assert loaded.effective()["cameras"]["camera"]["source"]["address"] == "rtsp://***@h/1"


def test_an_empty_source_is_reported() -> None:
    with pytest.raises(InvalidConfig, match="--source: is empty"):
        from_source(" ")


def test_the_digest_tells_settings_apart_but_not_secrets_or_writing(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        return load(write(tmp_path, text), environment={"P": "15"}).config.digest()

    base = digest("cameras: {a: {source: {address: 'rtsp://u:one@h', password: one}}}")
    assert base == digest(
        "defaults: {clip: {pre_roll_s: '${env:P}'}}\n"
        "cameras:\n  a:\n    source:\n      password: two\n      address: rtsp://u:two@h\n"
    )
    assert base != digest("cameras: {a: {source: {address: 'rtsp://u:one@other', password: one}}}")
    assert base != digest("cameras: {a: {source: {address: 'rtsp://u:one@h'}}}")
    assert base != digest(
        "cameras: {a: {source: {address: 'rtsp://u:one@h', password: one}, clip: {pre_roll_s: 9}}}"
    )


def test_people_see_what_was_written_where_the_environment_filled_in(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "defaults: {source: {user: '${env:WHO}'}}\n"
        "cameras: {a: {source: {address: 'rtsp://${env:HOST}/1'}},\n"
        "          b: {source: {address: x, user: me}}}\n",
    )
    cameras = load(file, environment={"WHO": "root", "HOST": "10.0.0.1"}).effective()["cameras"]
    assert cameras["a"]["source"]["user"] == "${env:WHO}"
    assert cameras["a"]["source"]["address"] == "rtsp://${env:HOST}/1"
    assert cameras["b"]["source"]["user"] == "me"
    assert "10.0.0.1" not in json.dumps(cameras)


def test_an_address_that_urls_must_not_lead_to_is_a_problem_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "fire.yaml"
    text = (
        "notify:\n"
        "  hook: {kind: webhook, url: 'http://2852039166/latest'}\n"
        "  home: {kind: mqtt, host: fe80::1}\n"
        "cameras:\n"
        "  a: {source: {address: 'rtsp://u:p@169.254.1.2/1'}}\n"
        "  b:\n"
        "    source: {address: 'rtsp://192.0.2.1/1'}\n"
        "    outputs: {publish: {url: 'rtsp://[fd00:ec2::254]/1'}}\n"
    )
    file.write_text(text)
    with pytest.raises(InvalidConfig) as caught:
        load(file)
    assert [(problem.line, problem.key) for problem in caught.value.problems] == [
        (2, "notify.hook.url"), (3, "notify.home.host"), (5, "cameras.a.source.address"),
        (8, "cameras.b.outputs.publish.url"),
    ]  # fmt: skip
    assert all("network.allow_link_local" in line for line in str(caught.value).splitlines())
    file.write_text(f"network: {{allow_link_local: true}}\n{text}")
    assert load(file).config.network.allow_link_local


@pytest.mark.parametrize(
    "text",
    ["cameras: " + "[" * 5000 + "]" * 5000, "cameras: " + "{a: " * 900 + "}" * 900],
    ids=["lists", "mappings"],
)
def test_deep_nesting_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "fire.yaml").write_text(text)
    with pytest.raises(InvalidConfig, match=r"^\S+:1: nested more than 32 levels deep$"):
        load(tmp_path / "fire.yaml")


def test_aliases_that_stand_for_billions_of_values_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (tmp_path / "fire.yaml").write_text("\n".join([*lines, "cameras: *a9"]))
    began = time.monotonic()
    with pytest.raises(InvalidConfig, match=r"stands for more than 200000 values by its aliases"):
        load(tmp_path / "fire.yaml")
    assert time.monotonic() - began < 10  # It took 40 s; it takes half a second.


def test_keys_that_begin_with_x_hold_anchors_and_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "fire.yaml").write_text(
        "x-hall: &hall {source: {address: 'pattern:'}, latency_budget_ms: 900, bad: 1}\n"
        "x-unused: '${env:NOT_SET}'\n"
        "cameras:\n  a: {<<: *hall, latency_budget_ms: 800}\n"
    )
    with pytest.raises(InvalidConfig) as caught:
        load(tmp_path / "fire.yaml")
    assert [(p.line, p.key) for p in caught.value.problems] == [(1, "cameras.a.bad")]
    text = (tmp_path / "fire.yaml").read_text().replace(", bad: 1", "")
    (tmp_path / "fire.yaml").write_text(text)
    camera = load(tmp_path / "fire.yaml").config.cameras["a"]
    assert camera.latency_budget_ms == 800
    assert str(camera.source.address) == "pattern:"


def test_one_name_in_two_spellings_of_unicode_is_a_repeated_key(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "für") for form in ("NFC", "NFD"))
    cameras = "".join(f"  {name}: {{source: {{address: a}}}}\n" for name in (composed, decomposed))
    (tmp_path / "fire.yaml").write_text(f"cameras:\n{cameras}", encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r":3: cameras\.für: repeated; first in line 2$"):
        load(tmp_path / "fire.yaml")


def test_a_repeated_key_is_a_problem_with_its_line_among_anchors_too(tmp_path: Path) -> None:
    (tmp_path / "fire.yaml").write_text("x-a: 1\nx-a: 2\ncameras: {a: {source: {address: a}}}\n")
    with pytest.raises(InvalidConfig, match=r":2: x-a: repeated; first in line 1$"):
        load(tmp_path / "fire.yaml")


def test_cameras_that_would_share_files_or_an_address_are_problems_with_their_lines(tmp_path):
    file = tmp_path / "fire.yaml"
    file.write_text("""
cameras:
  North:
    source: {address: a.mp4}
    outputs: {file: {path: out.mp4}, publish: {url: "rtsp://127.0.0.1/x"}}
  north:
    source: {address: b.mp4}
  south:
    source: {address: c.mp4}
    outputs:
      file: {path: ./out.mp4}
      publish: {url: "rtsp://127.0.0.1/x"}
""")
    with pytest.raises(InvalidConfig) as caught:
        load(file)
    lines = [line.split(":", 2)[1:] for line in str(caught.value).splitlines()]
    assert [int(line) for line, _ in lines] == [6, 11, 12]
    assert "only in case" in lines[0][1]
    assert all("'North' has the same" in text for _, text in lines[1:])
