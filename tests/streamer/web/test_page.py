"""The page in a real browser, with a server that the test kills and starts again."""

import threading
import time

import pytest

from streamer.core.frame import AlarmState
from tests.support.browser import CHROMIUM, Page, station

playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.system

LIMIT_S = 20


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no browser: {error}")
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Opens the page of a station."""
    pages = []

    def opened(of, *, query="", width=1280) -> Page:
        page = chromium.new_page(viewport={"width": width, "height": 800})
        page.errors, page.requested = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(f"http://127.0.0.1:{of.port}/{query}")
        pages.append(page)
        return Page(page)

    yield opened
    for page in pages:
        assert page.errors == []
        page.close()


def until(condition, *, within_s=LIMIT_S):
    """Wait for what the page shows; the browser runs on while it is examined."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "not in time"
        threading.Event().wait(0.05)


@pytest.mark.parametrize("count", [1, 6, 7, 16])
def test_every_camera_shows_fresh_images_and_its_alarm(open_page, count):
    names = [f"cam-{number}" for number in range(count)]
    last = names[-1]
    with station(names, level=60) as running:
        page = open_page(running)
        until(lambda: all(page.level(name) == pytest.approx(60, abs=8) for name in names))
        running.level = 200
        until(lambda: all(page.level(name) == pytest.approx(200, abs=8) for name in names))
        assert not any("stale" in page.kinds(name) for name in names)
        assert page.text("#summary").startswith("no alarm")
        running.alarms = dict.fromkeys(names, AlarmState.ALARM)
        until(lambda: all("alarm" in page.kinds(name) for name in names), within_s=3)
        assert page.text("#summary").startswith(f"ALARM: {', '.join(names)}")
        assert page.tile(last).locator(".badge").inner_text() == "ALARM"
        assert page.page.title() == f"({count}) ALARM · streamer"


def test_after_a_kill_nothing_is_shown_as_live_and_after_a_restart_the_page_recovers(open_page):
    names = ["north", "south"]
    with station(names, level=60) as running:
        page = open_page(running)
        until(lambda: page.level("south") == pytest.approx(60, abs=8))
        running.kill()
        until(lambda: page.page.locator("#banner").is_visible(), within_s=6)
        assert "does not answer since" in page.text("#banner")
        assert page.text("#banner").count("UTC") == 1
        assert page.text("#summary") == "unknown"
        assert all("stale" in page.kinds(name) for name in names)
        assert "not live: this image is" in page.tile("north").locator(".note").inner_text()
        assert page.caption("north").count("when the program last answered") == 1

        running.level, running.dark = 200, {"south"}
        running.start()
        until(lambda: page.level("north") == pytest.approx(200, abs=8), within_s=8)
        until(lambda: not page.page.locator("#banner").is_visible(), within_s=3)
        assert "stale" not in page.kinds("north")
        # The camera that does not come back shows no image of before the restart.
        until(lambda: page.level("south") is None, within_s=3)
        assert "no image" in page.caption("south")


def test_a_camera_that_stops_turns_grey_and_says_how_old_its_image_is(open_page):
    with station(["north", "south"]) as running:
        page = open_page(running)
        until(lambda: page.level("north") is not None)
        running.dark, running.faults["north"] = {"north"}, "connection refused"
        until(lambda: "stale" in page.kinds("north"), within_s=4)
        until(lambda: "fault" in page.kinds("north"), within_s=3)
        assert "not watched: reconnecting: connection refused, since" in page.caption("north")
        assert "idle" not in page.caption("north")
        assert "not live: this image is" in page.tile("north").locator(".note").inner_text()
        assert page.text("#summary") == "no alarm · 1 of 2 cameras not watched"
        assert page.text("#problems") == "camera north: reconnecting: connection refused"
        assert "stale" not in page.kinds("south")
        running.dark, running.faults["north"] = set(), ""
        until(lambda: not {"stale", "fault"} & page.kinds("north"), within_s=4)


def test_an_alarm_is_shown_without_any_image(open_page):
    with station(["north"]) as running:
        running.dark, running.faults["north"] = {"north"}, "connection refused"
        running.kill()
        running.alarms["north"] = AlarmState.ALARM
        running.start()
        page = open_page(running)
        until(lambda: "alarm" in page.kinds("north"), within_s=4)
        assert page.level("north") is None
        assert (
            page.tile("north").locator(".note").inner_text() == "reconnecting: connection refused"
        )
        assert page.text("#summary").startswith("ALARM: north · 1 of 1 camera not watched")


def test_cameras_stand_in_the_configured_order_and_follow_its_changes(open_page):
    with station(["west", "alpha", "mid"]) as running:
        page = open_page(running)
        until(lambda: page.order() == ["west", "alpha", "mid"])
        running.names = ["mid", "west"]
        until(lambda: page.order() == ["mid", "west"], within_s=4)


def test_a_name_is_only_ever_text(open_page):
    odd = "<img src=x onerror=alert(1)>"
    with station([odd]) as running:
        page = open_page(running)
        until(lambda: page.order() == [odd])
        assert page.page.locator("img").count() == 1


def test_the_token_is_sent_with_every_request_and_never_in_an_address(open_page):
    with station(["north"], token="t&k/n+ 1") as running:
        page = open_page(running, query="?token=t%26k%2Fn%2B+1")
        until(lambda: page.level("north") is not None)
        requested = [url for url in page.page.requested if not url.startswith(("blob:", "data:"))]
        assert all(url.startswith(f"http://127.0.0.1:{running.port}/") for url in requested)
        assert [url for url in requested if "token=" in url] == [requested[0]]
        stranger = open_page(running)
        assert stranger.text("body").strip() == "token missing or wrong"


@pytest.mark.parametrize("width", [380, 820, 1600])
def test_the_page_fits_every_width(open_page, width):
    long = "a-camera-with-a-rather-long-name-at-the-far-end-of-the-valley"
    with station(["north", long, "south"]) as running:
        running.faults[long] = "no route to host " * 8
        page = open_page(running, width=width)
        until(lambda: len(page.order()) == 3)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.page.evaluate(wide) == 0
