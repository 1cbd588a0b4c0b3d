"""What is done of a conversion, on disk: whole chunks of this very job, or nothing."""

import json
import multiprocessing
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.convert.journal import ChunkCounts, Journal, PacketEntry, fingerprint
from streamer.core.errors import StorageError

JOB = {"version": "1", "options": {"factor": "2"}, "chunks": [[0, 10], [10, 20]]}
COUNTS = ChunkCounts(
    input_frames=2, output_frames=4, synthetic=2, scene_changes=1, duplicates=3, enhanced=1,
    damaged=5,
)  # fmt: skip
PAYLOADS = [b"first", b"", b"the third", b"\0" * 700]
PACKETS = [
    PacketEntry(pts=512 * number - 100, size=len(payload), keyframe=number == 0)
    for number, payload in enumerate(PAYLOADS)
]


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.mp4"


def opened(output, job=None):
    """A journal, and what is done; it is closed: the next one may open it."""
    journal = Journal(output, JOB if job is None else job)
    finished = journal.open()
    journal.close()
    return journal, finished


def write(journal, number, *, finish=True):
    writer = journal.writer(number)
    for packet, payload in zip(PACKETS, PAYLOADS, strict=True):
        writer.add(packet, payload)
    finished = writer.finish(b"parameters", COUNTS) if finish else None
    writer.close()
    return finished


def names(output):
    folder = output.with_name(f"{output.name}.convert")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_finished_chunk_comes_back_as_it_was(output):
    journal, before = opened(output)
    assert before == {}
    assert not journal.resumed
    assert journal.is_empty
    made = write(journal, 1)
    assert not journal.is_empty
    again, finished = opened(output)
    assert again.resumed
    assert finished == {1: made}
    assert finished[1].extradata == b"parameters"
    assert finished[1].counts == COUNTS
    assert list(finished[1].payloads()) == list(zip(PACKETS, PAYLOADS, strict=True))


def test_a_chunk_that_was_not_finished_never_counts(output):
    journal, _ = opened(output)
    write(journal, 0, finish=False)
    assert opened(output)[1] == {}


CHUNK_FILES = ["00000.packets", "00000.json"]


@pytest.mark.parametrize("file", CHUNK_FILES)
def test_a_chunk_cut_at_any_byte_never_counts(output, file):
    journal, _ = opened(output)
    write(journal, 0)
    path = journal.folder / file
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert opened(output)[1] == {}, f"{file} of {length} bytes"
    path.write_bytes(data)
    assert list(opened(output)[1]) == [0]


def test_a_job_cut_at_any_byte_is_begun_anew(output):
    journal, _ = opened(output)
    data = (journal.folder / "job.json").read_bytes()
    for length in range(len(data)):
        write(journal, 0)
        (journal.folder / "job.json").write_bytes(data[:length])
        assert opened(output)[1] == {}
        assert "00000.json" not in names(output)
    assert (journal.folder / "job.json").read_bytes() == data


def test_what_was_left_half_written_under_another_name_is_no_chunk(output):
    journal, _ = opened(output)
    write(journal, 0)
    (journal.folder / "00001.json.part").write_text((journal.folder / "00000.json").read_text())
    (journal.folder / "00001.packets").write_bytes(b"".join(PAYLOADS))
    assert list(opened(output)[1]) == [0]


@pytest.mark.parametrize("record", ["[]", "{}", '{"number": 0, "packets": [[1]]}', "null", "7"])
def test_what_another_version_wrote_is_no_chunk(output, record):
    journal, _ = opened(output)
    write(journal, 0)
    (journal.folder / "00000.json").write_text(record)
    assert opened(output)[1] == {}


@pytest.mark.parametrize(
    "change",
    [
        {"version": "2"},
        {"options": {"factor": "3"}},
        {"chunks": [[0, 20]]},
        {"engines": {"a": "b"}},
    ],
)
def test_the_chunks_of_another_job_are_not_gone_on_with(output, change):
    journal, _ = opened(output)
    write(journal, 0)
    again, finished = opened(output, {**JOB, **change})
    assert finished == {}
    assert not again.resumed
    assert names(output) == ["job.json", "lock"]
    assert opened(output)[1] == {}, "the way back begins anew too"


def test_a_chunk_that_is_cut_short_later_is_reported(output):
    journal, _ = opened(output)
    made = write(journal, 0)
    os.truncate(made.payload_file, 10)
    with pytest.raises(StorageError, match="is truncated; delete its folder"):
        list(made.payloads())


def test_nothing_is_left_when_the_conversion_is_whole(output):
    journal = Journal(output, JOB)
    journal.open()
    write(journal, 0)
    (journal.folder / "detections.maps").write_bytes(b"maps")
    journal.remove()
    assert list(output.parent.iterdir()) == []


def test_files_of_others_in_that_folder_are_never_deleted(output):
    theirs = output.with_name("out.mp4.convert")
    theirs.mkdir()
    (theirs / "holiday.jpg").write_bytes(b"image")
    (theirs / "notes.json").write_text("{}")
    journal = Journal(output, JOB)
    journal.open()
    write(journal, 0)
    journal.remove()
    assert names(output) == ["holiday.jpg", "notes.json"]


def test_two_runs_never_work_on_one_output(output):
    first = Journal(output, JOB)
    first.open()
    with pytest.raises(StorageError, match="another run is writing this output"):
        Journal(output, JOB).open()
    first.close()
    opened(output)


def _hold(output, holding):
    Journal(output, JOB).open()
    holding.set()
    multiprocessing.Event().wait()  # Until it is killed.


def test_a_run_that_was_killed_keeps_nobody_out(output):
    context = multiprocessing.get_context("spawn")
    holding = context.Event()
    process = context.Process(target=_hold, args=(output, holding))
    process.start()
    assert holding.wait(timeout=60)
    with pytest.raises(StorageError, match="another run"):
        Journal(output, JOB).open()
    process.kill()
    process.join()
    opened(output)


@pytest.mark.parametrize("place", ["folder", "job.json"])
def test_where_nothing_can_be_written_is_a_line(output, place):
    journal = Journal(output, JOB)
    if place == "folder":
        journal.folder.write_text("a file of that name")
    else:
        (journal.folder / "job.json.part").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"cannot write .*out\.mp4\.convert"):
        journal.open()
    journal.close()


def test_a_full_disk_is_a_line_and_the_chunk_does_not_count(output):
    journal, _ = opened(output)
    (journal.folder / "00000.packets").symlink_to("/dev/full")
    writer = journal.writer(0)
    writer.add(PACKETS[0], b"first")
    with pytest.raises(StorageError, match="the disk is full"):
        writer.finish(b"", COUNTS)
    writer.close()
    assert opened(output)[1] == {}


def test_counts_add_up():
    double = COUNTS + COUNTS
    assert double == ChunkCounts(
        input_frames=4,
        output_frames=8,
        synthetic=4,
        scene_changes=2,
        duplicates=6,
        enhanced=2,
        damaged=10,
    )
    assert sum([COUNTS], ChunkCounts()) == COUNTS


@given(st.binary(max_size=50), st.integers(0, 49))
def test_a_recording_is_known_by_what_is_in_it(tmp_path_factory, data, at):
    path = tmp_path_factory.getbasetemp() / "recording"
    path.write_bytes(data)
    os.utime(path, ns=(0, 0))
    before = fingerprint(path)
    assert fingerprint(path) == before
    assert json.loads(json.dumps(before)) == before
    if data:
        changed = bytearray(data)
        changed[at % len(data)] ^= 1
        path.write_bytes(changed)
        os.utime(path, ns=(0, 0))
        assert fingerprint(path) != before


@pytest.mark.parametrize("change", ["date", "name", "head", "tail"])
def test_a_changed_recording_is_another(tmp_path, change):
    path = tmp_path / "long.mkv"
    data = bytearray(3 << 20)
    path.write_bytes(data)
    os.utime(path, ns=(10**18, 10**18))
    before = fingerprint(path)
    if change == "name":
        path = path.rename(tmp_path / "other.mkv")
    elif change in ("head", "tail"):
        data[0 if change == "head" else -1] = 1
        path.write_bytes(data)
        os.utime(path, ns=(10**18, 10**18))
    else:
        os.utime(path, ns=(10**18, 10**18 + 1))
    assert fingerprint(path) != before
