"""Raw rows are cut into slices of about one size, however they lie in files."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from quality.slices import plan

DAY = date(2025, 3, 11)
ROWS, FILES = 200, 30


def hex_id(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def upper(rng: random.Random) -> str:
    return hex_id(rng).upper()


def timed(rng: random.Random) -> str:
    return f"67d0{rng.getrandbits(112):028x}"


@pytest.mark.parametrize("make", [hex_id, upper, timed])
def test_small_files_of_all_traces_make_even_slices(
    tmp_path: Path, make: Callable[[random.Random], str]
) -> None:
    rng = random.Random(5)
    files = []
    for number in range(FILES):
        ids = sorted(make(rng) for _ in range(ROWS))
        path = tmp_path / f"{number}.parquet"
        pl.DataFrame({"trace_id": [*ids[:-1], None]}).write_parquet(path)
        files.append((str(path), DAY))
    slices = plan.slices(files, 1000)
    sizes = [sum(part.num_rows for part in plan.read(one, ["trace_id"])) for one in slices]
    assert sum(sizes) == ROWS * FILES
    assert len(sizes) == 6
    assert max(sizes) < 1400


def test_a_trace_id_of_all_rows_is_one_slice(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    pl.DataFrame({"trace_id": ["0"] * 2000}).write_parquet(path)
    (one,) = plan.slices([(str(path), DAY)], 1000)
    assert one.rows == 2000


def test_wide_rows_make_more_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    path = tmp_path / "wide.parquet"
    ids = sorted(hex_id(rng) for _ in range(ROWS))
    pl.DataFrame({"trace_id": ids, "attributes": ids}).write_parquet(path)
    files = [(str(path), DAY)]
    assert len(plan.slices(files)) == 1
    monkeypatch.setattr(plan, "BYTES", 2000)
    slices = plan.slices(files)
    assert len(slices) > 3
    sizes = [sum(part.num_rows for part in plan.read(one, ["trace_id"])) for one in slices]
    assert sum(sizes) == ROWS
