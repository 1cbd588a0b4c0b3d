"""Load and validate configuration files; report every problem at once."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from streamer.core.destinations import check_literal
from streamer.core.errors import ForbiddenDestination
from streamer.core.redact import redact_url, secret_parts

from .channels import MqttSettings, WebhookSettings
from .convert import ConvertOptions
from .diagnostics import InvalidConfig, Problem, translate, unknown
from .field_types import Loc, place_of
from .renamed_keys import accept_old_names
from .secrets import Text
from .settings import Config, EngineSettings, fill_in, merge
from .values import Address
from .yaml_reader import Document, Unreadable, read_document

_NONE: Final = {"none": {"source": {"address": "pattern:"}}}
"""Placeholder for commands that need no cameras."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A validated configuration and its origin."""

    config: Config
    files: tuple[Path, ...]
    """Files that were read; empty for defaults."""

    warnings: tuple[Problem, ...]
    """Keys that were written with their old names."""

    written: Mapping[Loc, str]
    """Values with placeholders, as written in the file."""

    def effective(self) -> dict[str, Any]:
        """Return all effective settings; secrets and substituted values are redacted."""
        plain = self.config.model_dump(mode="json", exclude={"defaults"})
        for loc, text in self.written.items():
            _put(plain, loc, text)
        return plain

    filled: frozenset[str]
    """Values that placeholders substituted into secrets and addresses."""

    def secrets(self) -> frozenset[str]:
        """Return all texts that no text from outside may bring into the output.

        Names are not among them: a password that equals the name of its camera is public already,
        and would only make that name and the ids of its alarms unreadable.
        """
        found = set(_secrets(self.config.model_dump(exclude={"defaults"})))
        return frozenset((found | self.filled) - self._names() - {""})

    def _names(self) -> frozenset[str]:
        return frozenset((*self.config.cameras, *self.config.notify))


def load(
    *files: Path | str, environment: Mapping[str, str] | None = None, cameras: bool = True
) -> Loaded:
    """Read and merge *files*; later files win.

    Args:
        files: YAML files.
        environment: Variables for placeholders; default: the environment of the process.
        cameras: Whether cameras are required; conversion needs none.

    Raises:
        InvalidConfig: With every problem of every file.
    """
    around = os.environ if environment is None else environment
    documents = [read_document(Path(file), around) for file in files]
    warnings = [warning for document in documents for warning in accept_old_names(document)]
    data: dict[str, Any] = {}
    for document in documents:
        data = merge(data, document.data)
    if not cameras and "cameras" not in data:
        data["cameras"] = _NONE
    data = fill_in(data)
    problems = [problem for document in documents for problem in document.problems]
    # Without the content of a file every key of it would be reported as missing.
    readable = all(document.data for document in documents)
    config: Config | None = None
    if readable:
        try:
            config = Config.model_validate(data)
        except ValidationError as error:
            problems += _translated(error, documents)
        problems += _unknown_channels(data, documents)
    if config is not None:
        problems += _shared(config, documents)
    if config is not None and not config.network.allow_link_local:
        problems += _forbidden(config, documents)
    if config is None or problems:
        raise InvalidConfig(sorted(set(problems), key=_order))
    texts = dict(_filled_in(data))
    return Loaded(
        config,
        files=tuple(Path(file) for file in files),
        warnings=tuple(sorted(warnings, key=_order)),
        written={loc: text.written or "" for loc, text in texts.items()},
        filled=frozenset(_secretly_filled(texts)),
    )


def from_source(address: str, *, name: str = "camera") -> Loaded:
    """Return a configuration with one camera at *address* and defaults otherwise.

    Raises:
        InvalidConfig: The address is empty.
    """
    try:
        # A person who types an address means it.
        network = {"allow_link_local": True}
        cameras = {name: {"source": {"address": address}}}
        config = Config.model_validate({"network": network, "cameras": cameras})
    except ValidationError as error:
        raise InvalidConfig(
            [Problem("--source", None, "", message) for _, message, _ in translate(error)]
        ) from None
    return Loaded(config, files=(), warnings=(), written={}, filled=frozenset())


def load_conversion(
    files: Sequence[Path], given: Mapping[str, Any]
) -> tuple[ConvertOptions, EngineSettings, tuple[Problem, ...]]:
    """Return the options of a conversion, the engine settings, and warnings on renamed keys.

    Args:
        files: Configuration files; may be empty.
        given: Options of the command line by key, which override the files.

    Raises:
        InvalidConfig: With every problem.
    """
    loaded = load(*files, cameras=False) if files else None
    settings = {**(loaded.config.convert.model_dump() if loaded else {}), **given}
    try:
        config = Config.model_validate({"cameras": _NONE, "convert": settings})
    except ValidationError as error:
        raise InvalidConfig(
            [
                Problem(f"--{_key(loc).replace('_', '-')}", None, "", message)
                for loc, message, _ in translate(error)
            ]
        ) from None
    if loaded is None:
        return config.convert, config.engine, ()
    return config.convert, loaded.config.engine, loaded.warnings


def _key(loc: Loc) -> str:
    """Return the key of `convert` that a location is in."""
    return str(loc[1] if len(loc) > 1 else loc[-1])


def _order(problem: Problem) -> tuple[str, int, str]:
    return problem.file, problem.line or 0, problem.key


def _translated(error: ValidationError, documents: Sequence[Document]) -> Iterator[Problem]:
    for loc, message, value in translate(error):
        if not isinstance(value, Unreadable):  # Reported by the reader already.
            yield _located(loc, message, documents)


def _located(loc: Loc, message: str, documents: Sequence[Document]) -> Problem:
    """Return the problem with the line of the value, which may be below `defaults`."""
    document, line, depth = _nearest(loc, documents)
    if loc[:1] == ("cameras",):
        inherited = ("defaults", *loc[2:])
        below, inherited_line, inherited_depth = _nearest(inherited, documents)
        if inherited_depth + 1 > max(depth, 2) and place_of(inherited).kind.is_a is not None:
            loc, document, line = inherited, below, inherited_line
    return Problem(document.file, line, ".".join(map(str, loc)), message)


def _nearest(loc: Loc, documents: Sequence[Document]) -> tuple[Document, int | None, int]:
    """Return document, line and length of the longest prefix of *loc* that is in a file."""
    for depth in range(len(loc), 0, -1):
        for document in reversed(documents):
            line = document.lines.get(loc[:depth])
            if line is not None:
                return document, line, depth
    return documents[-1], None, 0


def _unknown_channels(data: Mapping[str, Any], documents: Sequence[Document]) -> Iterator[Problem]:
    """Yield a problem for each name in `notify` of a camera that is not a channel."""
    channels = data.get("notify")
    known = list(channels) if isinstance(channels, Mapping) else []
    cameras = data.get("cameras")
    holders: dict[Loc, Any] = {("defaults",): data.get("defaults")}
    if isinstance(cameras, Mapping):
        holders |= {("cameras", name): camera for name, camera in cameras.items()}
    for holder, settings in holders.items():
        names = settings.get("notify") if isinstance(settings, Mapping) else None
        for index, name in enumerate(names if isinstance(names, list) else []):
            if isinstance(name, str) and name not in known:
                message = unknown("channel", name, known)
                yield _located((*holder, "notify", index), message, documents)


def _shared(config: Config, documents: Sequence[Document]) -> Iterator[Problem]:
    """Yield a problem for each camera that would share files or an address with an earlier one.

    Names that differ only in case share a folder on SMB shares, exFAT and macOS.
    """
    names: dict[str, str] = {}
    outputs: dict[str, str] = {}
    for name, camera in config.cameras.items():
        other = names.setdefault(name.casefold(), name)
        if other != name:
            message = f"differs from camera {other!r} only in case; choose another name"
            yield _located(("cameras", name), message, documents)
        written = {
            ("file", "path"): camera.outputs.file and str(camera.outputs.file.path),
            ("publish", "url"): camera.outputs.publish
            and camera.outputs.publish.url.get_secret_value(),
        }
        for loc, target in written.items():
            if target and (other := outputs.setdefault(target, name)) != name:
                message = f"camera {other!r} has the same; each camera needs its own"
                yield _located(("cameras", name, "outputs", *loc), message, documents)


def _forbidden(config: Config, documents: Sequence[Document]) -> Iterator[Problem]:
    """Yield a problem for each URL that is written with an address that is not permitted.

    Names are checked when they are resolved.
    """
    urls: dict[Loc, str] = {}
    for name, camera in config.cameras.items():
        urls["cameras", name, "source", "address"] = camera.source.address.get_secret_value()
        if camera.outputs.publish is not None:
            url = camera.outputs.publish.url.get_secret_value()
            urls["cameras", name, "outputs", "publish", "url"] = url
    for name, channel in config.notify.items():
        match channel:
            case WebhookSettings():
                urls["notify", name, "url"] = channel.url.get_secret_value()
            case MqttSettings():
                host = f"[{channel.host}]" if ":" in channel.host else channel.host
                urls["notify", name, "host"] = f"mqtt://{host}"
    for loc, url in urls.items():
        try:
            check_literal(url)
        except ForbiddenDestination as error:
            yield _located(loc, str(error), documents)


def _filled_in(data: Any, loc: Loc = ()) -> Iterator[tuple[Loc, Text]]:
    """Yield place and value of each text with placeholders."""
    if isinstance(data, Text) and data.written is not None:
        yield loc, data
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _filled_in(value, (*loc, key))
    if isinstance(data, list):
        for index, value in enumerate(data):
            yield from _filled_in(value, (*loc, index))


def _secretly_filled(texts: Mapping[Loc, Text]) -> Iterator[str]:
    """Yield values substituted into secrets and addresses, whole and as they are shown."""
    for loc, text in texts.items():
        # Channels are a union, whose keys are not looked up: all their values count as secret.
        if loc[0] == "notify" or place_of(loc).kind.is_secret:
            for value in text.filled:
                yield value
                yield redact_url(value)


def _put(plain: Any, loc: Sequence[Any], text: str) -> None:
    *above, last = loc
    for part in above:
        plain = plain.get(part) if isinstance(plain, dict) else plain[part]
        if plain is None:
            return
    if isinstance(plain, list) or last in plain:
        plain[last] = text


def _secrets(data: Any) -> Iterator[str]:
    if isinstance(data, Address):
        yield from secret_parts(data.get_secret_value())
    elif isinstance(data, SecretStr):
        yield data.get_secret_value()
    if isinstance(data, Mapping):
        for value in data.values():
            yield from _secrets(value)
