"""Reading small files: neither an endless device nor a pipe without a writer holds anybody up."""

import os
import subprocess
from pathlib import Path

import pytest

from streamer.config import small_file
from streamer.config.small_file import read_small_file


def test_a_file_is_read_and_no_more_than_one_byte_too_many(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_small_file(file, most=5) == b"12345"
    assert read_small_file(file, most=3) == b"1234"
    assert read_small_file(Path("/dev/zero"), most=3) == b"\0\0\0\0"


def test_a_pipe_without_a_writer_is_an_error_and_no_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(small_file, "_WAIT_S", 0.2)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError, match="it is a pipe"):
        read_small_file(pipe, most=10)


def test_a_slow_writer_of_a_pipe_is_waited_for(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = "read _; printf one; read _; printf two"
    with subprocess.Popen(["sh", "-c", f"({writer}) >{pipe}"], stdin=subprocess.PIPE) as process:
        process.stdin.write(b"\n\n")
        process.stdin.close()
        assert read_small_file(pipe, most=10) == b"onetwo"
