"""One conversion: chunks side by side, put together, and given its name."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Protocol

from streamer import __version__
from streamer.core.atomic_file import part_path, publish
from streamer.core.errors import Cancelled, StorageError
from streamer.core.frame import Frame
from streamer.core.pipeline import Pipeline, Stage, file_links

from .chunk_sink import ChunkEncoder, EncodeSettings
from .chunk_source import ChunkSource
from .chunks import Chunk, nanoseconds
from .journal import ChunkCounts, ChunkWriter, FinishedChunk, Journal, identity
from .mux import Muxer
from .plan import Plan
from .timing import StageTimer, watched_sink, watched_source, watched_stage

_LARGE: Final = 1920 * 1200
"""Pixels above which fewer pictures wait between the parts: memory, not cores, is short then."""


class Retimer(Protocol):
    """A stage that counts scene changes and duplicates, e.g. `streamer.stages.frame_rate`."""

    scene_changes: int
    duplicates: int

    def __call__(self, frames: Iterator[Frame], /) -> Iterator[Frame]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class ChunkStages:
    """What happens to the pictures of a chunk."""

    before: Mapping[str, Stage]
    """On the pictures of the recording."""

    retime: Retimer
    after: Mapping[str, Stage]
    """On all that are shown."""


StagesOf = Callable[[Chunk], ChunkStages]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a conversion is."""

    done: int
    """Pictures of the recording that were taken, those of earlier runs among them."""

    total: int
    resumed: int
    """Of those done, by earlier runs."""

    seconds: float
    """Since this run began."""

    busy: Mapping[str, float]
    """Seconds in which each part worked rather than waited, in all chunks together."""


class Job:
    """Converts one recording.

    Args:
        plan: What to do.
        stages: Makes the stages of a chunk.
        engines: Digest of each network that has a part in the result.
        jobs: Chunks side by side.
        report: Told now and then how far it is.
        prepare: Called with the conversion's own folder before any chunk is begun.
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
        self._running: dict[int, Pipeline] = {}  # Guarded by _guard.
        self._stopped = False  # Guarded by _guard.
        self._under_way: list[_UnderWay] = []  # Guarded by _guard.

    def run(self) -> ChunkCounts:
        """Convert all chunks that are not done and put them together as `<output>.part`.

        Raises:
            StreamerError: What went wrong; what is done stays for the next run.
            KeyboardInterrupt: As above.
        """
        finished = self._journal.open()
        earlier = sum(chunk.counts.pictures for chunk in finished.values())
        rest = [chunk for chunk in self._plan.chunks if chunk.number not in finished]
        if rest and self._prepare is not None:
            self._prepare(self._journal.folder)
        try:
            self._convert_all(rest, finished, earlier)
        except BaseException:
            if self._journal.empty and self._prepare is None:  # Nothing is worth going on with.
                self._journal.remove()
            raise
        chunks = [finished[chunk.number] for chunk in self._plan.chunks]
        _fit_together(chunks)
        plan = self._plan
        Muxer(plan.inventory, plan.coding, plan.copied, plan.stretched).write(plan.output, chunks)
        return sum((chunk.counts for chunk in chunks), ChunkCounts())

    def estimate_duration(self, pictures: int) -> float:
        """Seconds that all takes, from converting some pictures of the middle for nothing."""
        video, chunks = self._plan.video, self._plan.chunks
        chunk = chunks[len(chunks) // 2]
        few = min(pictures, chunk.pictures)
        if few < chunk.pictures:
            end_ns = nanoseconds(int(video.times[chunk.first + few]), video.time_base)
            chunk = replace(chunk, end_ns=end_ns, pictures=few, last=False)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            writer = ChunkWriter(Path(folder), 0)
            try:
                self._through(chunk, writer)
            finally:
                writer.close()
        return (time.monotonic() - started) * len(video.times) / few / self._jobs

    def publish(self) -> None:
        """Give the conversion its name, and clear away what it was made of."""
        publish(part_path(self._plan.output), self._plan.output)
        self._journal.remove()

    def close(self) -> None:
        """Let other runs work on this output. What is done stays."""
        self._journal.close()

    @property
    def resumed(self) -> bool:
        """Whether a part was done before."""
        return self._journal.resumed

    def _convert_all(
        self, rest: Sequence[Chunk], finished: dict[int, FinishedChunk], earlier: int
    ) -> None:
        """Convert *rest*, adding each chunk to *finished* when it is."""
        started = time.monotonic()
        with ThreadPoolExecutor(self._jobs, thread_name_prefix="chunk") as pool:
            futures = {pool.submit(self._convert, chunk) for chunk in rest}
            try:
                while futures:
                    done, futures = wait(futures, timeout=0.25, return_when=FIRST_COMPLETED)
                    for future in done:
                        chunk = future.result()
                        finished[chunk.number] = chunk
                    self._tell(earlier, started)
            except BaseException:
                self._stop(futures)
                raise

    def _convert(self, chunk: Chunk) -> FinishedChunk:
        writer = self._journal.writer(chunk.number)
        try:
            return self._through(chunk, writer)
        finally:
            writer.close()

    def _through(self, chunk: Chunk, writer: ChunkWriter) -> FinishedChunk:
        plan = self._plan
        source = ChunkSource(
            plan.inventory,
            chunk,
            plan.decoding,
            lead_ns=plan.lead_ns,
            follow=1 if plan.retiming.interpolates else 0,
        )
        stages = self._stages(chunk)
        encoder = ChunkEncoder(plan.coding, writer)
        parts = {**stages.before, "retime": stages.retime, **stages.after}
        busy = {name: StageTimer() for name in ("decode", *parts, "encode")}
        with self._guard:
            self._under_way.append(_UnderWay(source, busy))
        large = plan.video.width * plan.video.height > _LARGE
        pipeline = Pipeline(
            f"chunk-{chunk.number}",
            watched_source(source, busy["decode"]),
            {name: watched_stage(stage, busy[name]) for name, stage in parts.items()},
            {"encode": watched_sink(encoder, busy["encode"])},
            make_link=file_links(capacity=1 if large else 4),
        )
        self._run(chunk.number, pipeline)
        counts = ChunkCounts(
            pictures=source.pictures,
            shown=encoder.shown,
            synthetic=encoder.synthetic,
            cuts=stages.retime.scene_changes,
            repeats=stages.retime.duplicates,
            enhanced=encoder.enhanced,
            damaged=max(0, chunk.pictures - source.pictures),
        )
        return writer.finish(encoder.extradata, counts)

    def _run(self, number: int, pipeline: Pipeline) -> None:
        with self._guard:
            if self._stopped:
                raise Cancelled
            self._running[number] = pipeline
        try:
            pipeline.run()
        except ExceptionGroup as group:
            raise _cause(group) from group
        finally:
            with self._guard:
                del self._running[number]
                stopped = self._stopped
        if stopped:  # It ended early, and quietly.
            raise Cancelled

    def _stop(self, futures: "set[Future[FinishedChunk]]") -> None:
        for future in futures:
            future.cancel()
        with self._guard:
            self._stopped = True
            running = list(self._running.values())
        for pipeline in running:
            pipeline.stop()

    def _tell(self, earlier: int, started: float) -> None:
        with self._guard:
            under_way = list(self._under_way)
        busy: dict[str, float] = {}
        for one in under_way:
            for name, spent in one.busy.items():
                busy[name] = busy.get(name, 0.0) + spent.seconds
        self._report(
            Progress(
                done=earlier + sum(one.source.pictures for one in under_way),
                total=len(self._plan.video.times),
                resumed=earlier,
                seconds=time.monotonic() - started,
                busy=busy,
            )
        )


@dataclass(frozen=True, slots=True)
class _UnderWay:
    """A chunk that was begun in this run."""

    source: ChunkSource
    busy: Mapping[str, StageTimer]


def _description(plan: Plan, engines: Mapping[str, str]) -> dict[str, Any]:
    """Everything the result depends on, in words that JSON has."""
    asked = {name: str(value) for name, value in asdict(plan.asked).items()}
    return {
        "version": __version__,
        "input": identity(plan.inventory.path),
        "asked": asked,
        "coding": _said(plan.coding),
        "chunks": [[chunk.begin_ns, chunk.end_ns] for chunk in plan.chunks],
        "engines": dict(engines),
    }


def _said(coding: EncodeSettings) -> dict[str, str]:
    """What an encoder is told. Of the encoder itself its name: sets are printed in any order."""
    said = {one.name: str(getattr(coding, one.name)) for one in fields(coding)}
    return {**said, "spec": coding.spec.codec, "options": str(sorted(coding.options.items()))}


def _fit_together(chunks: Sequence[FinishedChunk]) -> None:
    """Check that one decoder can play all chunks in a row.

    Raises:
        StorageError: They were not encoded alike.
    """
    if any(chunk.extradata != chunks[0].extradata for chunk in chunks):
        # x265 tells in its headers with how many threads it was run.
        folder = chunks[0].packets.parent
        raise StorageError(
            f"{folder}: its chunks were encoded in different ways, such as on another machine; "
            "delete it to begin anew"
        )


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What went wrong first: the error that is ours, rather than its echoes."""
    leaves = list(_leaves(group))
    ours = [one for one in leaves if type(one).__module__.startswith(("streamer", "engines"))]
    return (ours or leaves)[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
