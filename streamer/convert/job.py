"""One conversion: converts chunks in parallel, muxes them, and publishes the output."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol

from streamer import __version__
from streamer.core.atomic_file import part_path, publish
from streamer.core.errors import Cancelled, StorageError
from streamer.core.frame import Frame
from streamer.core.pipeline import Pipeline, Stage, file_links

from .chunk_sink import ChunkEncoder
from .chunk_source import ChunkSource
from .chunks import Chunk, nanoseconds
from .journal import ChunkCounts, ChunkWriter, FinishedChunk, Journal, fingerprint
from .mux import Muxer
from .plan import Plan
from .timing import StageTimer, timed_sink, timed_source, timed_stage

_LARGE_FRAME: Final = 1920 * 1200
"""Pixels above which links hold a single frame: memory, not cores, is the limit then."""


class FrameRateStage(Protocol):
    """A stage that counts what it found; `streamer.stages.frame_rate` has one."""

    scene_changes: int
    duplicates: int

    def __call__(self, frames: Iterator[Frame], /) -> Iterator[Frame]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class ChunkStages:
    """The stages of one chunk's pipeline, in order."""

    before: Mapping[str, Stage]
    """Stages that receive the frames of the recording."""

    frame_rate: FrameRateStage
    after: Mapping[str, Stage]
    """Stages that receive the output frames."""


StagesOf = Callable[[Chunk], ChunkStages]


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a conversion."""

    done: int
    """Input frames processed, including those of earlier runs."""

    total: int
    """Input frames of the recording."""

    resumed: int
    """Input frames processed by earlier runs."""

    seconds: float
    """Seconds since this run began."""

    busy: Mapping[str, float]
    """Seconds in which each part worked rather than waited, summed over all chunks."""


class Job:
    """Converts one recording.

    Args:
        plan: What to do.
        stages: Creates the stages of a chunk.
        engines: Digest of each network that affects the output, by name.
        jobs: Chunks converted in parallel.
        report: Called with the progress several times per second.
        prepare: Called with the journal folder before the first chunk starts.
    """

    def __init__(
        self,
        plan: Plan,
        stages: StagesOf,
        *,
        engines: Mapping[str, str],
        jobs: int,
        report: Callable[[Progress], None],
        prepare: Callable[[Path], None] | None = None,
    ) -> None:
        self._plan = plan
        self._stages = stages
        self._jobs = jobs
        self._report = report
        self._prepare = prepare
        self._journal = Journal(plan.output, _description(plan, engines))
        self._guard = threading.Lock()
        self._pipelines: dict[int, Pipeline] = {}  # Running ones. Guarded by _guard.
        self._stopped = False  # Guarded by _guard.
        self._started: list[_StartedChunk] = []  # Guarded by _guard.

    def run(self) -> ChunkCounts:
        """Convert all unfinished chunks and mux all of them to `<output>.part`.

        Raises:
            StreamerError: The conversion failed; finished chunks stay for the next run.
            KeyboardInterrupt: It was interrupted; as above.
        """
        finished = self._journal.open()
        resumed = sum(chunk.counts.input_frames for chunk in finished.values())
        rest = [chunk for chunk in self._plan.chunks if chunk.number not in finished]
        if rest and self._prepare is not None:
            self._prepare(self._journal.folder)
        try:
            self._convert_all(rest, finished, resumed)
        except BaseException:
            if self._journal.is_empty and self._prepare is None:  # Nothing to resume.
                self._journal.remove()
            raise
        chunks = [finished[chunk.number] for chunk in self._plan.chunks]
        _check_joinable(chunks)
        plan = self._plan
        Muxer(plan.media, plan.encoding, plan.copied, plan.stretched).write(plan.output, chunks)
        return sum((chunk.counts for chunk in chunks), ChunkCounts())

    def estimate_duration(self, frames: int) -> float:
        """Estimate the seconds that the conversion takes.

        Converts *frames* input frames from the middle of the recording and discards the result.
        """
        video, chunks = self._plan.video, self._plan.chunks
        chunk = chunks[len(chunks) // 2]
        count = min(frames, chunk.frame_count)
        if count < chunk.frame_count:
            end_ns = nanoseconds(int(video.times[chunk.first + count]), video.time_base)
            chunk = replace(chunk, end_ns=end_ns, frame_count=count, is_last=False)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            writer = ChunkWriter(Path(folder), 0)
            try:
                self._run_chunk(chunk, writer)
            finally:
                writer.close()
        return (time.monotonic() - started) * len(video.times) / count / self._jobs

    def publish(self) -> None:
        """Rename `<output>.part` to the output, and delete the journal."""
        publish(part_path(self._plan.output), self._plan.output)
        self._journal.remove()

    def close(self) -> None:
        """Release the output for other runs. Finished chunks stay."""
        self._journal.close()

    @property
    def resumed(self) -> bool:
        """Whether finished chunks of an earlier run were reused."""
        return self._journal.resumed

    def _convert_all(
        self, rest: Sequence[Chunk], finished: dict[int, FinishedChunk], resumed: int
    ) -> None:
        """Convert the chunks in *rest*, adding each to *finished*."""
        started = time.monotonic()
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="chunk") as pool:
            futures = {pool.submit(self._convert, chunk) for chunk in rest}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.25, return_when=FIRST_COMPLETED)
                    for future in done:
                        chunk = future.result()
                        finished[chunk.number] = chunk
                    self._report_progress(resumed, started)
            except BaseException:
                self._stop(futures)
                raise

    def _convert(self, chunk: Chunk) -> FinishedChunk:
        writer = self._journal.writer(chunk.number)
        try:
            return self._run_chunk(chunk, writer)
        finally:
            writer.close()

    def _run_chunk(self, chunk: Chunk, writer: ChunkWriter) -> FinishedChunk:
        plan = self._plan
        source = ChunkSource(
            plan.media,
            chunk,
            plan.decoding,
            lead_ns=plan.lead_ns,
            follow=1 if plan.schedule.interpolates else 0,
        )
        stages = self._stages(chunk)
        encoder = ChunkEncoder(plan.encoding, writer)
        parts: dict[str, Stage] = {**stages.before, "frame_rate": stages.frame_rate, **stages.after}
        busy = {name: StageTimer() for name in ("decode", *parts, "encode")}
        with self._guard:
            self._started.append(_StartedChunk(source, busy))
        large = plan.video.width * plan.video.height > _LARGE_FRAME
        pipeline = Pipeline(
            f"chunk-{chunk.number}",
            timed_source(source, busy["decode"]),
            {name: timed_stage(stage, busy[name]) for name, stage in parts.items()},
            {"encode": timed_sink(encoder, busy["encode"])},
            make_link=file_links(capacity=1 if large else 4),
        )
        self._run_pipeline(chunk.number, pipeline)
        counts = ChunkCounts(
            input_frames=source.decoded_frames,
            output_frames=encoder.output_frames,
            synthetic=encoder.synthetic,
            scene_changes=stages.frame_rate.scene_changes,
            duplicates=stages.frame_rate.duplicates,
            enhanced=encoder.enhanced,
            damaged=max(0, chunk.frame_count - source.decoded_frames),
        )
        return writer.finish(encoder.extradata, counts)

    def _run_pipeline(self, number: int, pipeline: Pipeline) -> None:
        with self._guard:
            if self._stopped:
                raise Cancelled
            self._pipelines[number] = pipeline
        try:
            pipeline.run()
        except ExceptionGroup as group:
            raise _root_cause(group) from group
        finally:
            with self._guard:
                del self._pipelines[number]
                stopped = self._stopped
        if stopped:  # A stopped pipeline ends early without an error.
            raise Cancelled

    def _stop(self, futures: "set[Future[FinishedChunk]]") -> None:
        for future in futures:
            future.cancel()
        with self._guard:
            self._stopped = True
            running = list(self._pipelines.values())
        for pipeline in running:
            pipeline.stop()

    def _report_progress(self, resumed: int, started: float) -> None:
        with self._guard:
            chunks = list(self._started)
        busy: dict[str, float] = {}
        for chunk in chunks:
            for name, timer in chunk.busy.items():
                busy[name] = busy.get(name, 0.0) + timer.seconds
        self._report(
            Progress(
                done=resumed + sum(chunk.source.decoded_frames for chunk in chunks),
                total=len(self._plan.video.times),
                resumed=resumed,
                seconds=time.monotonic() - started,
                busy=busy,
            )
        )


@dataclass(frozen=True, slots=True)
class _StartedChunk:
    source: ChunkSource
    busy: Mapping[str, StageTimer]


def _description(plan: Plan, engines: Mapping[str, str]) -> dict[str, Any]:
    """Return everything the output depends on, as JSON data."""
    encoding = plan.encoding
    settings = {one.name: str(getattr(encoding, one.name)) for one in fields(encoding)}
    options = str(sorted(encoding.options.items()))
    return {
        "version": __version__,
        "input": fingerprint(plan.media.path),
        "options": plan.options.model_dump(mode="json", exclude={"jobs"}),
        # The encoder by name, since a set has no fixed text.
        "encoding": {**settings, "spec": encoding.spec.codec, "options": options},
        "chunks": [[chunk.begin_ns, chunk.end_ns] for chunk in plan.chunks],
        "engines": dict(engines),
    }


def _check_joinable(chunks: Sequence[FinishedChunk]) -> None:
    """Check that one decoder can play all chunks in a row.

    Raises:
        StorageError: The encoder wrote different parameter sets.
    """
    if any(chunk.extradata != chunks[0].extradata for chunk in chunks):
        # x265 writes its number of threads into its headers.
        folder = chunks[0].payload_file.parent
        raise StorageError(
            f"{folder}: its chunks were encoded differently, for example on another machine; "
            "delete it to start again"
        )


def _root_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error of this program in the group, else the first error."""
    leaves = list(_leaves(group))
    own = [one for one in leaves if type(one).__module__.startswith(("streamer", "engines"))]
    return (own or leaves)[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
