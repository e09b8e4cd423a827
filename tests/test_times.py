"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lake import UserError
from rootlake.times import moment, span

NOON = datetime(2025, 3, 11, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        pytest.param("2025-03-11T12:00Z", NOON, id="UTC"),
        pytest.param("2025-03-11 12:00", NOON, id="no zone is UTC"),
        pytest.param("2025-03-11T13:00+01:00", NOON, id="another zone"),
        pytest.param("90m", datetime(2025, 3, 11, 10, 30, tzinfo=UTC), id="an age"),
        pytest.param("2d", datetime(2025, 3, 9, 12, tzinfo=UTC), id="days ago"),
        pytest.param("2025-03-11", datetime(2025, 3, 11, tzinfo=UTC), id="a day"),
    ],
)
def test_moment(text: str, meant: datetime) -> None:
    assert moment(text, now=NOON) == meant


@pytest.mark.parametrize("text", ["noon", "14:05", "", "99999999999d", "2025-13-01"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(UserError, match="is no time"):
        moment(text, now=NOON)


@pytest.mark.parametrize("text", ["2025-03-11", "2025-03-12/2025-03-11", "a/b"])
def test_what_is_no_stretch_of_time_is_said(text: str) -> None:
    with pytest.raises(UserError):
        span(text)
