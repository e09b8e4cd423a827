"""Second round: suspect rows of all slices meet what they name, and the rules run over them.

Rows that could concern each other stay together: rows of one trace, a row and the spans that a
link out of its own trace could mean, a trace and the half of its id. What is together makes a
batch with others of its day until it is large enough. Its day is the first that its rows were
received for: what rules ask of many rows is counted by day, so that a row is judged alike
whichever days are made together.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from lake import UNPLACED
from quality import derived, moves, outcome, spans
from quality.clock import bounds, skew
from quality.rules import kinship
from quality.slices import derive, judge
from quality.slices.judge import SHIFT
from quality.suppressions import Exempt, Suppressed

Numbers = npt.NDArray[Any]
ROWS = 400_000  # of a batch, about
_KEYS = ("trace", "low", "half", "span", "link", "home")


def sought(folder: Path, numbers: Sequence[int]) -> dict[str, Numbers]:
    """What to look for among healthy rows: trace, low, span (`judge.pulled`)."""
    parts = [_keys(folder / f"suspects-{number}") for number in numbers]
    rows = pl.concat(parts)
    traces = pl.concat([rows["trace"], rows["home"]]).unique()
    lows = rows["half"].unique()
    return {
        "trace": traces.filter(traces != 0).to_numpy(),
        "low": lows.filter(lows != 0).to_numpy(),
        "span": _dangling(rows).to_numpy(),
    }


def _keys(file: Path) -> pl.DataFrame:
    return pl.read_ipc(file, columns=[*_KEYS, "day"])


def _dangling(rows: pl.DataFrame) -> pl.Series:
    """The links whose span is not in the row's own trace."""
    known = rows.filter(pl.col("trace") != 0).select("trace", link="span").unique()
    lost = rows.filter(pl.col("link") != 0).join(known, on=["trace", "link"], how="anti")
    return lost["link"].unique()


def batches(rows: pl.DataFrame, size: int = ROWS) -> tuple[Numbers, list[date]]:
    """The batch of each row, from its numbers (`judge.suspects`), and the day of each batch."""
    count = rows.height
    days = rows["day"].filter(rows["day"] != UNPLACED).unique().to_list()
    if count <= size and len(days) < 2:
        return np.zeros(count, np.int64), (days or [UNPLACED])[: min(count, 1)]
    from scipy.sparse import coo_array  # slow to import, and a single day has no need
    from scipy.sparse.csgraph import connected_components

    nodes, edges = count, list[tuple[Numbers, Numbers]]()
    here = np.arange(count)
    shared = (
        (("trace", "home"), None),
        (("span", "link"), _dangling(rows)),
        (("low",), rows["half"].unique()),
    )
    for names, wanted in shared:
        values = pl.concat([rows[name] for name in names])
        use = values != 0
        if wanted is not None:
            use &= values.is_in(wanted.implode())
        places = np.tile(here, len(names))[use.to_numpy()]
        _, code = np.unique(values.filter(use).to_numpy(), return_inverse=True)
        edges.append((places, nodes + code))
        nodes += int(code.max(initial=-1)) + 1
    left, right = (np.concatenate(side) for side in zip(*edges, strict=True))
    graph = coo_array((np.ones(len(left), bool), (left, right)), (nodes, nodes))
    part = connected_components(graph, directed=False)[1][:count]
    return _gathered(rows["day"].set(rows["day"] == UNPLACED, None), part, size)


def _gathered(day: pl.Series, part: Numbers, size: int) -> tuple[Numbers, list[date]]:
    """The batch of each row, of parts (numbers) that have the same first `day`, and that day."""
    rows = pl.DataFrame({"part": part, "day": day})
    parts = rows.group_by("part").agg(pl.col("day").min().fill_null(UNPLACED), pl.len())
    parts = parts.sort("day", "part")
    before = (pl.col("len").cum_sum() - pl.col("len")).over("day")
    parts = parts.with_columns(batch=pl.struct("day", before // size).rle_id().cast(pl.Int64))
    found = rows.drop("day").join(parts, on="part", maintain_order="left")["batch"].to_numpy()
    return found, parts.unique("batch", maintain_order=True)["day"].to_list()


def divide(folder: Path, numbers: Sequence[int]) -> list[date]:
    """Suspect and pulled rows of all slices into batches; the day of each."""
    files = [folder / f"{kind}-{n}" for n in numbers for kind in ("suspects", "called")]
    files = [file for file in files if file.exists()]
    keys = [_keys(file) for file in files]
    batch, days = batches(pl.concat(keys)) if keys else (np.zeros(0, np.int64), [])
    low = 0
    for place, (file, held) in enumerate(zip(files, keys, strict=True)):
        mine = pl.Series("batch", batch[low : low + held.height])
        low += held.height
        rows = pl.read_ipc(file).drop(*_KEYS)
        rows = rows.with_columns(mine)
        for (number,), part in rows.partition_by("batch", as_dict=True).items():
            part.drop("batch").write_ipc(folder / f"part-{number}-{place}")
    return days


def linked(number: int, folder: Path, off: Suppressed, kin: kinship.Kin) -> pl.DataFrame:
    """The rules before clocks over a batch; how many calls it leaves by hour (`judge.hours`)."""
    parts = [pl.read_ipc(file) for file in folder.glob(f"part-{number}-*")]
    rows = pl.concat(parts)
    about = rows.select("row", "day", *derived.PLACE)
    with kinship.known(kin):
        found = spans.before_clocks(rows.drop("day", *derived.PLACE), _exempt(about, off))
    calls = bounds.calls(found.spans).sort("at")
    calls.write_ipc(folder / f"calls-batch{number}")
    found.spans.write_ipc(folder / f"linked-{number}")
    found.audit.write_ipc(folder / f"audit-{number}")
    found.merged.write_ipc(folder / f"merged-{number}")
    about.write_ipc(folder / f"about-{number}")
    return judge.hours(calls)


def _exempt(about: pl.DataFrame, off: Suppressed) -> Exempt:
    return off.exempt(about["day"], about["row"])


class Timed(NamedTuple):
    """What a batch comes to: audit with `date`, moves, `date` of merged rows, quarantined rows
    (row, row_key, day), checks, audit of clocks."""

    audit: pl.DataFrame
    moves: pl.DataFrame
    merged: pl.Series
    quarantined: pl.DataFrame
    checks: pl.DataFrame
    clocks: pl.DataFrame


def timed(
    number: int, folder: Path, lines: list[skew.Line], off: Suppressed, kin: kinship.Kin
) -> Timed:
    """The rules after clocks over a batch; its rows are left in the folder by slice."""
    before, audit, merged, about = (
        pl.read_ipc(folder / f"{name}-{number}") for name in ("linked", "audit", "merged", "about")
    )
    with kinship.known(kin):
        found, moved = spans.after_clocks(before, lines, _exempt(about, off))
    gone = pl.concat([merged, found.merged])
    placed = pl.concat([_dated(found.spans), _dated(gone)]).select("row", "row_key", "date")
    placed = placed.join(about.select("row", before="day"), on="row", maintain_order="left")
    rows = _dated(found.spans)
    for (slice_,), part in rows.group_by(pl.col("row") // (1 << SHIFT)):
        part.write_ipc(folder / f"mended-{slice_}-{number}")
    derive.keep(
        folder,
        f"batch{number}",
        *derive.measures(rows.join(about, on="row", maintain_order="left")),
    )
    return Timed(
        pl.concat([audit, found.audit]).join(placed.select("row", "date"), on="row"),
        moves.moved(placed.rename({"date": "after"})),
        _dated(gone)["date"],
        found.quarantined.select("row", "row_key").join(about.select("row", "day"), on="row"),
        outcome.tally(rows),
        skew.audit(lines, moved),
    )


def _dated(rows: pl.DataFrame) -> pl.DataFrame:
    day = (pl.col("start_ns") // 1000).cast(pl.Datetime("us", "UTC")).dt.date()
    return rows.with_columns(day.alias("date"))
