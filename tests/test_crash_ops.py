"""A few of the runs that `python -m tests.crash_ops` makes by the hundred."""

from __future__ import annotations

import pytest

from tests.crash_ops import once


@pytest.mark.parametrize("what", ["maintain", "undo"])
def test_killed_at_a_random_moment_nothing_is_lost_doubled_or_half_done(what: str) -> None:
    assert once(0, what, files=4).startswith(what)
