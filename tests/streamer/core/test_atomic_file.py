import pytest

from streamer.core.atomic_file import AtomicFile, part_path, write_atomically


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    file = AtomicFile(tmp_path / "new" / "a.bin")
    file.write(b"hello")
    assert names(tmp_path / "new") == ["a.bin.part"]
    file.seek(1)
    file.write(b"a")
    file.publish()
    assert names(tmp_path / "new") == ["a.bin"]
    assert file.path.read_bytes() == b"hallo"


def test_an_abandoned_part_stays_and_takes_nothing_more(tmp_path):
    file = AtomicFile(tmp_path / "a.bin")
    file.write(b"one")
    file.abandon()
    assert file.write(b"two") == 3
    assert part_path(tmp_path / "a.bin").read_bytes() == b"one"


def test_a_discarded_part_is_deleted(tmp_path):
    file = AtomicFile(tmp_path / "a.bin")
    file.write(b"one")
    file.discard()
    assert names(tmp_path) == []


def test_a_write_that_fails_leaves_the_older_file_and_no_part(tmp_path):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")
    part_path(path).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert (names(tmp_path), path.read_bytes()) == (["a.bin"], b"old")
    write_atomically(path, memoryview(b"new"))
    assert path.read_bytes() == b"new"
