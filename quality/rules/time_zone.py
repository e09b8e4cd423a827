"""A source off by whole quarter hours told local time for UTC: its zone is the offset of its clock.

The evidence is that of `clock_skew`, whose lines find the offset: of a host's calls nearly all must
agree. What is left beside the quarters, and is more than the bounds leave open, is its clock's.
"""

from __future__ import annotations

NAME = "time_zone"
QUARTER = 900_000_000_000  # ns
MOST = 14 * 4  # quarters: no zone is further from UTC
BESIDE = 5_000_000_000  # ns a zone's clock may be off beside
AGREED = 0.95  # the share of a source's calls that must be against its being right


def quarters(offset: float) -> int:
    """How many quarter hours an offset (ns) is, 0 when it is no zone's."""
    count = round(offset / QUARTER)
    near = abs(offset - count * QUARTER) <= BESIDE
    return count if near and abs(count) <= MOST else 0


def exact(offset: float, error: float) -> float:
    """The offset of a zone, to the nanosecond where nothing is known beside it."""
    whole = float(quarters(offset) * QUARTER)
    return whole if abs(offset - whole) <= error else offset
