"""Real clips: those with smoke raise, those without do not."""

import json

import pytest

from .test_demo_and_replay import run

pytestmark = [pytest.mark.data, pytest.mark.slow]

SMOKE = {
    "cheahber_wildfire_aerial": 20,
    "javisdada_smoke8_hillside": 10,
    "jingchengdeng_campfire_720p_every5th": 12,
    "teerapongp_smoke_distant_plume": 10,
}
"""Name and the latest second of its alarm; where smoke is there from the first frame on."""

CLEAR = (
    "javisdada_nosmoke2_overcast",
    "shashank_clouds_bluesky",
    "shashank_haze_city",
    "skycast_fog_sunrise",
)


def replayed(data, kind, name):
    (path,) = (data / "smoke" / kind).glob(f"{name}*")
    # A clip of which only every fifth frame remains claims a rate that it was not taken at.
    rate = ["--frame-rate", "6"] if "every5th" in name else []
    done = run("replay", path, "--json", *rate)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()[:-1]]


@pytest.mark.parametrize("name", SMOKE)
def test_smoke_raises(data, name):
    events = replayed(data, "clips_smoke", name)
    assert [event["kind"] for event in events][:1] == ["raised"]
    assert events[0]["media_s"] <= SMOKE[name]


@pytest.mark.parametrize("name", CLEAR)
def test_what_is_no_smoke_does_not_raise(data, name):
    assert replayed(data, "clips_nonsmoke", name) == []
