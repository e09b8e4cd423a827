"""Files the command line writes."""

from __future__ import annotations

from pathlib import Path

from lake.errors import UserError


def write_text(file: Path, text: str) -> None:
    """Write a file whole, or UserError."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}.") from error
