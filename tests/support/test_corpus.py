"""The corpus is what it says: kinds of streams, times and numbers of its frames."""

import av
import pytest

from .corpus import RECORDINGS, Corpus, Recording, named
from .corpus_frames import number_in

UNREADABLE = {"raw.h264", "old.avi", "encrypted.mp4"}
"""They have no times, or no frames for us."""


@pytest.mark.parametrize("one", named(one for one in RECORDINGS.values() if one.kinds))
def test_a_recording_has_the_streams_that_are_listed(one: Recording, recordings: Corpus):
    with av.open(str(recordings[one.file])) as container:
        assert tuple(stream.type for stream in container.streams) == one.kinds


@pytest.mark.parametrize(
    "one",
    named(one for one in RECORDINGS.values() if one.video and one.file not in UNREADABLE),
)
def test_every_frame_shows_its_number_at_its_time(one: Recording, recordings: Corpus):
    with av.open(str(recordings[one.file])) as container:
        stream = container.streams.video[0]
        seen = [
            (frame.pts * frame.time_base, number_in(frame)) for frame in container.decode(stream)
        ]
    assert [time for time, _ in seen] == list(one.times)
    assert [number for _, number in seen] == list(one.numbers)


@pytest.mark.parametrize("file", ["no-index.mp4", "text.mp4"])
def test_what_is_no_recording_cannot_be_opened(file: str, recordings: Corpus):
    with pytest.raises(av.error.InvalidDataError):
        av.open(str(recordings[file]))
