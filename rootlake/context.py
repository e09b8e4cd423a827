"""What every command is given: the lake, the settings, and where to write."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lake.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lake import Lake
    from rca.workspace import Workspace
    from rootlake.config import Config


class Context:
    """One run of the command line. Heavy parts are made when first asked for."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.json: bool = getattr(arguments, "json", False)
        self.strict: bool = getattr(arguments, "strict", False)

    @cached_property
    def config(self) -> Config:
        from rootlake.config import load

        return load(getattr(self.arguments, "config", None))

    @cached_property
    def lake(self) -> Lake:
        from lake import Lake

        place = getattr(self.arguments, "lake", None)
        if place == "":
            raise UsageError("--lake is empty; name the lake's folder or URL.")
        place = place or self.config.lake
        return Lake(place, self.config.storage_options)

    @property
    def called(self) -> str:
        """How this program finds the same lake again, to be typed before a command."""
        words = ["rootlake"]
        for name in ("lake", "config"):
            value = getattr(self.arguments, name, None)
            words += [f"--{name}", value] if value else []
        return shlex.join(words)

    @cached_property
    def workspace(self) -> Workspace:
        from pathlib import Path

        from rca.workspace import Workspace

        seen = self.config.workspace
        return Workspace(
            self.lake,
            kubernetes=tuple(Path(place) for place in seen.kubernetes),
            repositories=tuple(Path(place) for place in seen.repositories),
            prometheus=seen.prometheus,
        )

    @cached_property
    def out(self) -> Console:
        """For people; on standard error when machines read standard output."""
        return _console(stderr=self.json)

    @cached_property
    def err(self) -> Console:
        return _console(stderr=True)

    def answer(self, value: Any) -> None:
        """One JSON value, alone on standard output."""
        unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
        form = {**_FORM, "ensure_ascii": not unicode}
        try:
            text = json.dumps(value, **form)
        except ValueError:
            text = json.dumps(_finite(value), **form)
        sys.stdout.write(f"{text}\n")

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[str], None]]:
        """A line that says what is going on, on a terminal; nothing in a log."""
        if not self.err.is_terminal:
            yield lambda _text: None
            return
        from rich.markup import escape

        with self.err.status(title) as status:
            yield lambda text: status.update(f"{title}  [dim]{escape(text)}[/dim]")


def _plain(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


_FORM: dict[str, Any] = {"indent": 1, "default": _plain, "allow_nan": False}


def _finite(value: Any) -> Any:
    """The same with "nan", "inf" and "-inf" for numbers that JSON has not."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    class Piped(Console):
        def on_broken_pipe(self) -> None:
            """`| head` is no failure: `rootlake.cli` ends quietly."""
            raise BrokenPipeError

    return Piped(stderr=stderr, highlight=False)
