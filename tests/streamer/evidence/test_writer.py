"""What is in an alarm's folder, that its seal holds, and what a bad disk or a kill does."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamer.core.clock import MediaClock
from streamer.core.frame import AlarmState, AlarmStatus, Frame, SegmentationResult
from streamer.core.image import Image
from streamer.evidence import manifest as manifest_module
from streamer.evidence.manifest import seal, verify
from streamer.evidence.writer import EvidenceWriter, Provenance
from streamer.stages.overlay import Overlay
from tests.support.clips import images
from tests.support.deliveries import REGION, event

ROOT = Path(__file__).resolve().parents[3]
CLOCK = MediaClock(datetime(2026, 8, 1, 14, 5, tzinfo=UTC))
PROVENANCE = Provenance(
    program="streamer 0.2.0",
    model="smoke", model_digest="ab" * 32,
    backend="openvino", config_digest="cd" * 32,
    thresholds={"idle": 0.5, "active": 0.4, "low": 0.3, "applied": 0.4},
    zones={"include": [], "exclude": []},
)  # fmt: skip
MAP = np.linspace(0, 1, 12 * 20, dtype=np.float32).reshape(12, 20)
FILES = ["event-0.json", "mask-0.png", "overlay-0.jpg", "still-0.jpg"]


def smoky(probability=MAP) -> Frame:
    return Frame(
        Image.from_rgb(next(images(1))),
        pts_ns=1_500_000_000,
        arrived_ns=1_600_000_000,
        number=38,
        segmentation=SegmentationResult(probability, 1_500_000_000),
        alarm_status=AlarmStatus(AlarmState.ALARM, 0, (REGION,)),
    )


def evidence_under(root: Path) -> EvidenceWriter:
    return EvidenceWriter(
        root, provenance=lambda _: PROVENANCE, draw=Overlay("north", clock=CLOCK).draw
    )


@pytest.fixture
def evidence(tmp_path):
    return evidence_under(tmp_path)


def written(evidence, what, frame):
    """Write all and return the folder."""
    assert evidence.write(what, frame).missing == []
    return evidence.folder(what)


@pytest.fixture
def folder(evidence):
    return written(evidence, event(), smoky())


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def rgb(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(int)


def checked_by_sha256sum(folder):
    lines = [f"{sealed['sha256']}  {name}\n" for name, sealed in manifest(folder)["files"].items()]
    return subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet"],
        input="".join(lines), capture_output=True, text=True, cwd=folder, timeout=20, check=False,
    )  # fmt: skip


def test_an_alarm_has_a_folder_below_its_camera_with_all_that_shows_why(tmp_path, folder):
    assert folder == tmp_path / "north" / "north-1"
    assert names(folder) == sorted([*FILES, "manifest.json"])


def test_the_still_is_the_frame_as_it_came_and_only_the_overlay_is_drawn_on(folder):
    came = smoky().image.rgb().astype(int)
    still, overlay = rgb(folder / "still-0.jpg"), rgb(folder / "overlay-0.jpg")
    assert still.shape == overlay.shape == came.shape == (180, 320, 3)
    assert np.abs(still - came).max() < 16  # JPEG is not exact.
    assert np.abs(overlay - came).max() > 100
    left = round(REGION.box[0] * 320)
    edge = overlay[72:108, left - 2 : left + 3].reshape(-1, 3)
    assert (edge[:, 0] - edge[:, 1]).max() > 80  # The box is red; the frame is gray.


def test_the_mask_is_the_network_s_map_at_its_own_size_in_256_steps(folder):
    mask = cv2.imread(str(folder / "mask-0.png"), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.rint(MAP * 255))


def test_a_map_that_leaves_0_to_1_is_cut_there_and_does_not_wrap_round(evidence):
    folder = written(evidence, event(), smoky(np.float32([[-0.5, 0.25, 1.0001, 7]])))
    mask = cv2.imread(str(folder / "mask-0.png"), cv2.IMREAD_UNCHANGED)
    assert mask.tolist() == [[0, 64, 255, 255]]


def test_a_frame_without_inference_has_no_mask(evidence):
    folder = written(evidence, event(), replace(smoky(), segmentation=None))
    assert names(folder) == ["event-0.json", "manifest.json", "overlay-0.jpg", "still-0.jpg"]
    assert verify(folder) == []


def test_the_event_s_file_has_when_why_and_what_decided(folder):
    facts = json.loads((folder / "event-0.json").read_text(encoding="utf-8"))
    region = facts.pop("regions")
    assert facts == {
        "kind": "raised", "id": "north-1-0", "alarm_id": "north-1", "camera": "north",
        "media_s": 1.5, "pts_ns": 1_500_000_000, "onset_s": 0.0, "onset_ns": 0,
        "utc": "2026-07-01T12:00:00.000+00:00",
        "reason": "grew 38 % in 20 s, anchored at 0.41, 0.52",
        "score": 0.87, "box": [0.4, 0.4, 0.5, 0.6], "frame": 38, "width": 320, "height": 180,
        "provenance": {
            "program": "streamer 0.2.0", "model": "smoke", "model_digest": "ab" * 32,
            "backend": "openvino", "config_digest": "cd" * 32,
            "thresholds": {"idle": 0.5, "active": 0.4, "low": 0.3, "applied": 0.4},
            "zones": {"include": [], "exclude": []},
        },
    }  # fmt: skip
    assert region[0]["box"] == [0.4, 0.4, 0.5, 0.6]
    assert (region[0]["confidence"], region[0]["peak"], region[0]["motion"]) == (0.7, 0.9, None)


def test_updated_and_cleared_add_to_the_folder_and_change_nothing_in_it(evidence, folder):
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert written(evidence, event("north-1", 1), smoky()) == folder
    cleared = replace(event("north-1", 2, kind="cleared"), regions=())
    assert written(evidence, cleared, smoky()) == folder
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert sorted(manifest(folder)["files"]) == sorted(
        name.replace("0", str(number)) for name in FILES for number in range(3)
    )
    assert verify(folder) == []
    last = json.loads((folder / "event-2.json").read_text())
    assert (last["kind"], last["box"], last["regions"]) == ("cleared", None, [])


def test_sha256sum_finds_everything_as_it_was_sealed(folder):
    done = checked_by_sha256sum(folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert verify(folder) == []
    sizes = {name: each["bytes"] for name, each in manifest(folder)["files"].items()}
    assert sizes == {name: (folder / name).stat().st_size for name in FILES}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("place", [0, -1])
def test_a_single_changed_bit_is_found(folder, name, place):
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 1
    (folder / name).write_bytes(data)
    assert verify(folder) == [f"{name}: changed since it was sealed"]
    done = checked_by_sha256sum(folder)
    assert done.returncode == 1
    assert done.stdout == f"{name}: FAILED\n"
    (folder / name).unlink()
    assert verify(folder) == [f"{name}: missing"]


@pytest.mark.parametrize("text", [None, "", "{", "{}", "\x80"])
def test_a_manifest_that_is_gone_or_torn_is_reported_in_one_line(folder, text):
    (folder / "manifest.json").unlink()
    if text is not None:
        (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    (fault,) = verify(folder)
    assert fault.startswith("manifest.json: cannot be read (")


def test_a_clip_is_sealed_with_what_is_known_of_it(evidence, folder):
    (folder / "clip.mp4").write_bytes(b"video")
    (folder / "clip-2.mp4.part").write_bytes(b"half of a")
    facts = {"files": ["clip.mp4"], "frames": 25, "complete": True}
    evidence.add_clip(folder, facts)
    assert sorted(manifest(folder)["files"]) == sorted(["clip.json", "clip.mp4", *FILES])
    assert json.loads((folder / "clip.json").read_text()) == facts
    assert verify(folder) == []
    (folder / "clip.mp4").write_bytes(b"Video")
    assert verify(folder) == ["clip.mp4: changed since it was sealed"]


# Disks that are full or in the way, and a kill.


def no_room_for(path):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}.part").symlink_to("/dev/full")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_the_disk_does_not_take_is_named_and_the_others_are_written(evidence, name):
    folder = evidence.folder(event())
    no_room_for(folder / name)
    found = evidence.write(event(), smoky())
    assert found.missing == [f"cannot write {folder / name}: the disk is full"]
    assert found.image == (None if name == "overlay-0.jpg" else folder / "overlay-0.jpg")
    assert sorted(found.files) == sorted(set(FILES) - {name})
    assert sorted(manifest(folder)["files"]) == sorted(found.files)
    assert verify(folder) == []
    assert evidence.write(event(), smoky()).missing == [], "there is room again"
    assert verify(folder) == []
    assert names(folder) == sorted([*FILES, "manifest.json"])


def test_a_disk_that_fills_up_leaves_the_older_seal_as_it_was(evidence, folder):
    no_room_for(folder / "manifest.json")
    found = evidence.write(event("north-1", 1), smoky())
    assert found.missing == [f"cannot write {folder / 'manifest.json'}: the disk is full"]
    assert sorted(manifest(folder)["files"]) == FILES
    assert verify(folder) == []


def test_a_root_that_cannot_be_a_folder_is_reported_a_line_for_each_file(tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = evidence_under(tmp_path / "file").write(event(), smoky())
    assert (found.files, found.image) == ((), None)
    assert all(line.endswith(": not a directory") for line in found.missing)
    assert len(found.missing) == len(FILES)


def test_an_update_reads_no_file_that_was_sealed_before(evidence, folder, monkeypatch):
    (folder / "clip.mp4").write_bytes(b"long video")
    evidence.add_clip(folder, {"files": ["clip.mp4"]})
    read = []
    digest = manifest_module._digest
    monkeypatch.setattr(
        manifest_module, "_digest", lambda path: (read.append(path.name), digest(path))[1]
    )
    evidence.write(event("north-1", 1), smoky())
    assert sorted(read) == ["event-1.json", "mask-1.png", "overlay-1.jpg", "still-1.jpg"]
    assert verify(folder) == []


def test_others_may_not_read_the_folder(tmp_path):
    written(evidence_under(tmp_path / "evidence"), event(), smoky())
    assert (tmp_path / "evidence").stat().st_mode & 0o777 == 0o700


KILLED = """
import itertools, os, signal, stat, sys
from pathlib import Path
from tests.streamer.evidence.test_writer import event, evidence_under, smoky

def live(root, kill_at):
    ticks = itertools.count()
    fsync, replace = os.fsync, Path.replace

    def torn(handle):
        if next(ticks) == kill_at:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        fsync(handle)

    def killed(path, target):
        if next(ticks) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    os.fsync, Path.replace = torn, killed
    evidence_under(root).write(event(), smoky())
    evidence_under(root).write(event("north-1", 1), smoky())

for point in itertools.count():
    child = os.fork()
    if child == 0:
        live(Path(sys.argv[1]) / str(point), point)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status != -signal.SIGKILL:
        sys.exit(status)
"""


def whole(path):
    if path.suffix == ".json":
        return isinstance(json.loads(path.read_text()), dict)
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED).size > 0


def test_wherever_a_kill_comes_no_half_file_has_its_name_and_the_next_life_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, str(tmp_path)],
        capture_output=True, text=True, timeout=60, cwd=ROOT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lives = sorted(tmp_path.iterdir())
    assert len(lives) == 2 * 5 * 3 + 1  # Each file is synced, renamed, and its name synced.
    for root in lives:
        folder = root / "north" / "north-1"
        for path in folder.iterdir():
            assert path.suffix == ".part" or whole(path)
        if (folder / "manifest.json").exists():
            assert verify(folder) == []
            assert set(FILES) <= set(manifest(folder)["files"])
        else:
            assert verify(folder)
        evidence_under(root).write(event("north-1", 1), smoky())
        seal(folder)
        assert verify(folder) == []
        assert not any(name.endswith(".part") for name in manifest(folder)["files"])
