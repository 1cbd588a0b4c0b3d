"""Conversions that are killed, interrupted, out of room, or not alone: nothing is lost by it."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time

import av
import pytest

from tests.support.clips import video_clip

pytestmark = pytest.mark.slow

STREAMER = [sys.executable, "-m", "streamer.cli"]
CHUNKS = 4
LIMIT_S = 120


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """40 seconds, four chunks."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return video_clip(path, frames=1000, gop=50, b_frames=2, width=256, height=96)


@pytest.fixture(scope="module")
def whole(clip, tmp_path_factory):
    """What comes of it when nothing happens."""
    output = tmp_path_factory.mktemp("whole") / "out.mp4"
    done = run(clip, output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


def same(output, whole):
    """The same frames at the same times, but for one chunk at most.

    x264 with several threads codes alike nearly always: at some widths 8 of 180 runs differed.
    """
    ours, theirs = packets(output), packets(whole)
    assert ours.keys() == theirs.keys()
    differing = sum(ours[time] != theirs[time] for time in ours)
    assert differing <= len(theirs) / CHUNKS, f"{differing} of {len(theirs)} packets differ"


def packets(path):
    with av.open(str(path)) as container:
        return {one.pts: bytes(one) for one in container.demux(video=0) if one.size}


def command(clip, output, *options):
    return [
        *STREAMER, "convert", str(clip), "-o", str(output), "--quality", "draft", "--jobs", "1",
        "--device", "cpu", *options,
    ]  # fmt: skip


def run(clip, output, *options, **more):
    return subprocess.run(
        command(clip, output, *options), capture_output=True, text=True, timeout=LIMIT_S,
        check=False, **more,
    )  # fmt: skip


@contextlib.contextmanager
def running(clip, output, *options):
    """A conversion under way; it is ended at the end of the block."""
    process = subprocess.Popen(
        command(clip, output, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(process, happened):
    """Wait for something that a conversion does."""
    ends = time.monotonic() + LIMIT_S
    while not happened():
        assert process.poll() is None or happened(), process.communicate()
        assert time.monotonic() < ends
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.01)


def sent(number, clip, output, happened):
    """The exit status of a conversion that got a signal when something happened.

    On a busy machine it may have been done before: then it is begun anew.
    """
    for _ in range(10):
        with running(clip, output) as process:
            until(process, lambda: happened() or process.poll() == 0)
            process.send_signal(number)
            process.wait(timeout=LIMIT_S)
        if process.returncode != 0:
            break
        output.unlink()
    return process.returncode


def folder(output):
    return output.with_name(f"{output.name}.convert")


def chunks_done(output):
    return len(list(folder(output).glob("[0-9]*.json")))


MOMENTS = {
    "before the first chunk is done": lambda output: folder(output).joinpath("job.json").exists(),
    "after the first chunk": lambda output: chunks_done(output) >= 1,
    "after the third chunk": lambda output: chunks_done(output) >= 3,
    "while the result is written or proven": lambda output: output.with_name(
        f"{output.name}.part"
    ).exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_conversion_goes_on_and_its_result_is_the_same(clip, whole, tmp_path, moment):
    output = tmp_path / "out.mp4"
    sent(signal.SIGKILL, clip, output, lambda: MOMENTS[moment](output))
    assert not output.exists()
    kept = chunks_done(output)
    done = run(clip, output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (", resumed" in done.stdout) is (kept > 0)
    same(output, whole)
    assert list(tmp_path.iterdir()) == [output]


def test_killed_again_and_again_it_comes_to_its_end(clip, whole, tmp_path):
    output = tmp_path / "out.mp4"
    for number in range(1, CHUNKS + 1):
        with running(clip, output) as process:
            until(process, lambda: chunks_done(output) >= number)  # noqa: B023  called at once
            process.kill()
            process.wait()
        assert chunks_done(output) >= number, "what is done is never done again"
    assert run(clip, output).returncode == 0
    same(output, whole)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_it_at_once_and_it_goes_on_later(clip, whole, tmp_path, number, code):
    output = tmp_path / "out.mp4"
    assert sent(number, clip, output, lambda: chunks_done(output) >= 1) == code
    assert not output.with_name("out.mp4.part").exists()
    assert chunks_done(output) >= 1
    done = run(clip, output)
    assert (done.returncode, ", resumed" in done.stdout) == (0, True)
    same(output, whole)


def test_a_second_run_on_one_output_is_refused_and_the_first_is_not_disturbed(
    clip, whole, tmp_path
):
    output = tmp_path / "out.mp4"
    with running(clip, output) as process:
        until(process, lambda: chunks_done(output) >= 1)
        process.send_signal(signal.SIGSTOP)
        other = run(clip, output, "--encoder", "x265")
        assert other.returncode == 1
        assert "another run is writing this output" in other.stderr
        process.send_signal(signal.SIGCONT)
        printed, _ = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, printed
    same(output, whole)


@pytest.mark.parametrize(
    ("room", "where"),
    [(5_000, "out.mp4.convert/"), (40_000, "out.mp4:")],
)
def test_no_room_is_a_line_and_it_goes_on_when_there_is_some(clip, whole, tmp_path, room, where):
    """Here no file may grow beyond a limit; a full disk says the same with another number."""
    output = tmp_path / "out.mp4"

    def little_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    assert whole.stat().st_size > 40_000, "else the limit is none"
    full = run(clip, output, preexec_fn=little_room)
    assert full.returncode == 1
    (line,) = full.stderr.strip().splitlines()
    assert line.startswith(f"streamer: cannot write {tmp_path}/{where}")
    assert line.endswith("the file may not grow any further")
    assert not output.with_name("out.mp4.part").exists(), "what is not whole gives its room back"
    assert run(clip, output).returncode == 0
    same(output, whole)


def test_a_changed_recording_is_begun_anew(clip, whole, tmp_path):
    source, output = tmp_path / "in.mp4", tmp_path / "out.mp4"
    source.write_bytes(clip.read_bytes())
    with running(source, output) as process:
        until(process, lambda: chunks_done(output) >= 1)
        process.kill()
        process.wait()
    later = source.stat().st_mtime_ns + 1
    os.utime(source, ns=(later, later))
    done = run(source, output)
    assert done.returncode == 0, done.stderr
    assert ", resumed" not in done.stdout
    same(output, whole)
