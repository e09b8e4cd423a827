"""What a source is: a class with options that reads a window of time into pieces.

Sources are found by the entry-point group `rootlake.sources`; the project's own come through the
same door (pyproject.toml), so another package can add one (docs/sources.md).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ingest.batch import Piece, Place, content_id
from ingest.window import Window
from lake import UsageError, UserError

GROUP = "rootlake.sources"


class Options(BaseModel):
    """What every source can be told; a source adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    target: str = Field(description="file, folder or URL")
    cluster: str | None = Field(
        None, description="written where the source does not say it", examples=["eu-1"]
    )
    namespace: str | None = Field(
        None, description="written where the source does not say it", examples=["shop"]
    )
    environment: str | None = Field(
        None, description="written where the source does not say it", examples=["production"]
    )
    mask: tuple[str, ...] = Field(
        (), description="fields whose values are never written", examples=[["password"]]
    )

    @property
    def place(self) -> Place:
        """Where the telemetry was made, as far as it was told."""
        return Place(self.cluster, self.namespace, self.environment)


class Source(ABC):
    """One kind of source, set up with its options."""

    name: ClassVar[str]
    version: ClassVar[str] = "1"
    about: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    selects: ClassVar[tuple[str, ...]] = ()  # options that choose a part of what the target holds

    def __init__(self, options: Any) -> None:
        self.given = options

    @property
    def windowed(self) -> bool:
        """Whether it can read a window of time; files are read whole."""
        return "://" in self.given.target

    @property
    def selection(self) -> str:
        """A short name of the part that is chosen; empty where it is all."""
        fields = type(self.given).model_fields
        chosen = {name: getattr(self.given, name) for name in self.selects}
        told = {key: one for key, one in chosen.items() if one != fields[key].default}
        return content_id(repr(sorted(told.items())).encode())[:8] if told else ""

    @property
    def called(self) -> str:
        """What one pull at a time holds, in words without credentials."""
        name = f"{self.name} {without_credentials(self.given.target)}"
        return f"{name} (selection {self.selection})" if self.selection else name

    @property
    def server(self) -> str | None:
        """What only one pull at a time may ask; None for files."""
        return None

    @abstractmethod
    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of what the window asks for, in the order they are to land."""

    def check(self) -> str:
        """Try the source with a real call; one sentence on what was found.

        Raises UserError where it cannot be read.
        """
        piece = next(self.read(Window.trial()), None)
        return "nothing new there" if piece is None else f"readable: {piece.origin}"


@cache
def registered() -> Mapping[str, EntryPoint]:
    """The sources installed in this environment, by name."""
    return {point.name: point for point in sorted(entry_points(group=GROUP))}


def source_class(name: str) -> type[Source]:
    """The class of a source; UsageError where there is none, or it does not load."""
    point = registered().get(name)
    if point is None:
        raise UsageError(f"there is no source {name!r}; there are {', '.join(registered())}.")
    try:
        found = point.load()
    except Exception as error:
        raise UserError(
            f"the source {name!r} ({point.value}) does not load: {error}; update or remove the"
            " package that brings it."
        ) from error
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise UserError(f"the source {name!r} ({point.value}) is no ingest.source.Source.")
    return found


def made(name: str, given: Mapping[str, Any]) -> Source:
    """A source set up with its options; UserError names key, value and what is allowed."""
    kind = source_class(name)
    try:
        return kind(kind.options.model_validate(dict(given)))
    except ValidationError as error:
        raise UsageError(f"{name}: {explained(error, kind.options)}") from error


def explained(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The first thing wrong with some options: key, value, what is allowed."""
    found = error.errors()[0]
    key = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        known = f"; there are {', '.join(model.model_fields)}" if model else ""
        return f"there is no setting {key!r}{known}."
    if found["type"] == "missing":
        return f"{key} is missing."
    return f"{key} = {found['input']!r}: {found['msg'].lower()}."


def without_credentials(target: str) -> str:
    """A URL without its user and password; anything else as it is."""
    return re.sub(r"^(\w+://)[^@/]*@", r"\1", target)


def now() -> datetime:
    """The present moment, in UTC."""
    return datetime.now(UTC)
