"""Value types of the configuration other than plain numbers and text."""

import os
import re
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    Secret,
    SecretStr,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from streamer.core.redact import redact_url

from .secrets import Text

_NO_PATH: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|pattern\Z")
_SERVER: Final = re.compile(r"(?:rtsps?|https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST_AND_PORT: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+[^]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
_HIGHEST_PORT: Final = 65_535


class Section(BaseModel):
    """A section of the configuration: known keys only, immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        validate_default=False,
    )


AnySection = TypeVar("AnySection", bound=Section)


def in_order(section: AnySection, low: str, high: str) -> AnySection:
    """Return *section*; raise ValueError if its key *low* exceeds its key *high*."""
    if getattr(section, low) > getattr(section, high):
        raise ValueError(
            f"{low} must be at most {high}, got {getattr(section, low):g} and"
            f" {getattr(section, high):g}"
        )
    return section


class Address(Secret[str]):
    """Address of a camera or receiver; `str` and `repr` omit user, password and tokens.

    `get_secret_value` returns the whole address.
    """

    def _display(self) -> str:
        return redact_url(self.get_secret_value())

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Return the schema of plain text, for editors."""
        del schema, handler
        return {"type": "string", "minLength": 1}


def _with_home(path: str) -> str:
    """Return *path* with the home folder in place of `~`."""
    if path == "~" or path.startswith("~/"):
        expanded = os.path.expanduser(path)  # noqa: PTH111  unlike Path's, it raises nothing
        if expanded.startswith("~"):
            raise ValueError("this user has no home folder for '~'; write the whole path")
        return expanded
    return path


def _beside_the_file(value: Any) -> Any:
    """Make a relative path relative to the folder of its configuration file."""
    if not isinstance(value, str):
        return value
    path = Path(_with_home(value))
    return value.folder / path if isinstance(value, Text) else path


def _local_or_remote(value: Any) -> Any:
    """As `_beside_the_file`, but leave URLs and device names unchanged."""
    if not isinstance(value, str) or not value.strip() or _NO_PATH.match(value):
        return value
    folder = value.folder if isinstance(value, Text) else ""
    # Not through Path, which would tidy up what may not be a path at all.
    return os.path.join(folder, _with_home(value))  # noqa: PTH118


def _filled(address: Address) -> Address:
    if not address.get_secret_value().strip():
        raise ValueError("is empty")
    return address


def _with_a_server(address: Address) -> Address:
    found = _SERVER.fullmatch(address.get_secret_value())
    # An "@" behind the first slash: a password with a slash, which sources split themselves.
    if found is not None and "@" not in found[2]:
        server = _HOST_AND_PORT.fullmatch(found[1].rpartition("@")[2])
        if server is None or not 1 <= int(server[1] or 1) <= _HIGHEST_PORT:
            raise ValueError("its host or port is not valid; a port is 1 to 65535")
    return address


LocalPath = Annotated[Path, BeforeValidator(_beside_the_file, json_schema_input_type=str)]
"""A file system path; absolute after reading."""

CameraAddress = Annotated[
    Address,
    BeforeValidator(_local_or_remote, json_schema_input_type=str),
    AfterValidator(_filled),
    AfterValidator(_with_a_server),
]
"""A URL, a device or a path."""


def _network(value: Any) -> Any:
    """Leave names unchanged; resolve paths like `_beside_the_file`."""
    is_path = isinstance(value, str) and ("/" in value or value.endswith(".onnx"))
    return str(_beside_the_file(value)) if is_path else value


ModelName = Annotated[str, BeforeValidator(_network, json_schema_input_type=str)]
"""The name of a shipped network, or the path of an ONNX file."""


DEVICE: Final = r"^(auto|cpu|cuda(:[0-9]{1,3})?)$"
DeviceName = Annotated[str, Field(pattern=DEVICE)]
"""Inference device: the CPU, or a GPU by its index."""


def _begins_with(*schemes: str) -> AfterValidator:
    *first, last = (f"{scheme}://" for scheme in schemes)
    allowed = f"{', '.join(first)} or {last}"

    def check(address: Address) -> Address:
        text = address.get_secret_value()
        if not text.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f"must begin with {allowed}")
        if any(character.isspace() or not character.isprintable() for character in text):
            raise ValueError("a URL holds no spaces and no control characters")
        try:  # Of the standard library: its messages hold parts of the URL, ours hold none.
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError("its host or port is not valid; a port is 1 to 65535") from None
        if not host:
            raise ValueError("names no host")
        if port == 0:
            raise ValueError("its host or port is not valid; a port is 1 to 65535")
        return address

    return AfterValidator(check)


WebUrl = Annotated[Address, AfterValidator(_filled), _begins_with("http", "https")]
"""HTTP(S) URL; may contain a secret."""

PublishUrl = Annotated[
    Address, AfterValidator(_filled), _begins_with("rtsp", "rtsps", "rtmp", "rtmps", "srt")
]
"""Media server URL; may contain a secret."""


def _null_if_empty(value: Any) -> Any:
    """Return `None` for an empty text, which `${env:NAME:-}` yields for an unset variable."""
    return None if value == "" else value


Password = Annotated[SecretStr | None, BeforeValidator(_null_if_empty)]
"""Secret text; empty text is `None`."""

User = Annotated[str | None, BeforeValidator(_null_if_empty)]
"""User name; empty text is `None`."""


def _ratio(value: Any) -> Any:
    """Validate a number above 0 and return it as an exact fraction, such as 60000/1001."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Fraction):
        return value
    try:
        number = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        number = Fraction(0)
    if number <= 0:
        raise ValueError("expected a number above 0, such as 0.25 or 60000/1001")
    return number


Ratio = Annotated[
    Fraction,
    BeforeValidator(_ratio, json_schema_input_type=str | int | float),
    PlainSerializer(str, return_type=str),
]
"""A number above 0, exact, optionally written as a fraction."""

Share = Annotated[float, Field(ge=0, le=1)]
"""Ratio or relative coordinate from 0 to 1; 0, 0 is the top left corner."""

Port = Annotated[int, Field(ge=1, le=65_535)]

Host = Annotated[str, Field(min_length=1, max_length=253)]


def _composed(name: Any) -> Any:
    """Return a name in the one of its two spellings in Unicode that keyboards make (NFC)."""
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


Name = Annotated[
    str,
    Field(pattern=r"^[\p{L}\p{N}][\p{L}\p{M}\p{N}_-]{0,62}$"),
    BeforeValidator(_composed),
]
"""Name of letters of any language; file names and topics are derived from it."""

Point = tuple[Share, Share]


def _spans_an_area(points: tuple[Point, ...]) -> tuple[Point, ...]:
    following = [*points[1:], *points[:1]]
    twice = sum(x * v - u * y for (x, y), (u, v) in zip(points, following, strict=True))
    if abs(twice) < 1e-6:  # noqa: PLR2004  half a millionth of the frame: less than a pixel
        raise ValueError(
            "the polygon encloses nothing: its points lie on a line, or its edges cross"
        )
    return points


Polygon = Annotated[tuple[Point, ...], Field(min_length=3), AfterValidator(_spans_an_area)]
"""At least three [x, y] in order; the last point connects to the first."""
