"""Times as people type them, read as UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from lake.errors import UsageError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def moment(text: str, now: datetime | None = None) -> datetime:
    """An ISO 8601 time (no zone: UTC), a day, or an age such as `90m`, `2h`, `7d`.

    Raises UsageError for anything else.
    """
    age = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    try:
        if age:
            return (now or datetime.now(UTC)) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        read = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text!r} is no time; write 2025-03-11T14:05Z, 2025-03-11, or an age such as 2h."
        ) from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def span(text: str) -> tuple[datetime, datetime]:
    """`FROM/TO`, two moments with FROM first. Raises UsageError."""
    parts = text.split("/")
    if len(parts) != 2:
        raise UsageError(f"{text!r} is no stretch of time; write FROM/TO, two times and a slash.")
    start, end = moment(parts[0]), moment(parts[1])
    if start >= end:
        raise UsageError(f"{text!r} ends before it starts.")
    return start, end
