"""A run of those that `python -m tests.crash` makes by the hundred."""

from __future__ import annotations

from tests.crash import once


def test_a_repair_killed_at_a_random_moment_shows_no_half_day_and_loses_nothing() -> None:
    assert once(0, files=2, sliced=False).startswith("repair")
