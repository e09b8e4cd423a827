"""How right the repairs are: planted faults, repaired, compared with the truth, rule by rule.

    python -m bench.accuracy --spans 1000000 --rate 0.01
    python -m bench.accuracy --source train-ticket

changed     rows whose values a rule changed; right: those that are now as they were
repairable  rows with a planted fault whose evidence stands in rows without any
repaired    of these, those that are as they were; wrong: changed into something else
healthy     rows without a fault that were changed
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import beta

from bench import sources, traffic
from bench.corrupt import IDS, Corrupted, corrupt
from bench.evidence import repairable
from quality import frame, spans

TIMES = ("start_ns", "duration_ns")
COLUMNS = (*IDS, *TIMES)
UNITS = {"ms": 1_000_000, "s": 1_000_000_000}
Flags = npt.NDArray[np.bool_]


class Score(NamedTuple):
    """rows: per fault and way planted, repairable, repaired, wrong, left; changes: per rule
    changed and right; healthy: changed rows without a fault."""

    rows: pl.DataFrame
    changes: pl.DataFrame
    healthy: pl.DataFrame
    bad: pl.DataFrame


def score(clean: pl.DataFrame, planted: Corrupted) -> Score:
    """Repair the damaged rows and compare."""
    damaged = frame.narrow(planted.rows)
    found = spans.repair(damaged)
    both = _judged(damaged, found, planted)
    can = repairable(clean, planted)
    both = both.join(can, on="arrival", how="left", maintain_order="left")
    healthy = both.filter(~pl.col("damaged"), pl.col("changed"))
    rows = _per_fault(both.filter("damaged"))
    bad = both.filter(pl.col("wrong") | (pl.col("repairable") & ~pl.col("right")))
    return Score(rows, _per_rule(both, found), healthy, bad)


def _judged(damaged: pl.DataFrame, found: spans.Repaired, planted: Corrupted) -> pl.DataFrame:
    """One row per damaged-frame row: right, wrong, changed, gone (merged or in quarantine)."""
    truth = planted.truth
    before = damaged.select(
        pl.col("row").cast(pl.Int64), *(pl.col(name).alias(f"{name}_0") for name in COLUMNS)
    )
    after = found.spans.select(
        "row",
        *COLUMNS,
        "faults",
        "repaired",
        "clock_error_ns",
        "clock_offset_ns",
        "service",
        "host",
        "kind",
        "operation",
    )
    gone = pl.concat(
        [
            found.merged.select("row", fate=pl.lit("merged")),
            found.quarantined.select("row", fate=pl.lit("quarantined")),
        ]
    )
    arrival = planted.rows.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("row"), "arrival")
    both = (
        arrival.join(truth, on="arrival", how="left", maintain_order="left")
        .rename({name: f"{name}_1" for name in COLUMNS})
        .join(before, on="row", how="left", maintain_order="left")
        .join(after, on="row", how="left", maintain_order="left")
        .join(gone, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("fate").fill_null("kept"))
    )
    return _verdicts(_renamed(both))


def _renamed(both: pl.DataFrame) -> pl.DataFrame:
    """Ids that a rule made anew stand for the true ones, one for one."""
    shared = (
        both.filter(
            (pl.col("fault") == "span_shared") & (pl.col("way") == "server"),
            pl.col("span_id") != pl.col("span_id_0"),
        )
        .select("span_id", true="span_id_1")
        .unique("span_id")
    )
    shared = pl.concat([shared, _unborne(both)]).unique(
        "span_id", keep="first", maintain_order=True
    )
    merged = (
        both.filter(pl.col("merged"), pl.col("trace_id") != pl.col("trace_id_0"))
        .group_by("trace_id")
        .agg(true=pl.col("trace_id_1").mode().sort().first(), rows=pl.len())
        .sort("rows", descending=True)
        .unique("true", keep="first", maintain_order=True)
        .select("trace_id", "true")
    )
    known = both["trace_id_1"].unique().implode()
    merged = merged.filter(~pl.col("trace_id").is_in(known))
    merged = pl.concat([merged, _nameless(both)]).unique("trace_id", keep="any")
    for column, names in (
        ("span_id", shared),
        ("parent_span_id", shared.rename({"span_id": "parent_span_id"})),
        ("trace_id", merged),
    ):
        both = (
            both.join(names, on=column, how="left", maintain_order="left")
            .with_columns(pl.coalesce("true", column).alias(column))
            .drop("true")
        )
    return both


def _unborne(both: pl.DataFrame) -> pl.DataFrame:
    """Spans whose own id neither they nor a child bear any more: the id they have now."""
    told = pl.concat(
        [
            both.filter(pl.col("span_id_0") == pl.col("span_id_1"))["span_id_1"],
            both.filter(pl.col("parent_span_id_0") == pl.col("parent_span_id_1"))[
                "parent_span_id_1"
            ],
        ]
    )
    lost = both.filter(
        ~pl.col("span_id_1").is_in(told.unique().implode()), pl.col("fault") == "id_missing"
    )
    return lost.select("span_id", true="span_id_1").drop_nulls().unique("span_id")


def _nameless(both: pl.DataFrame) -> pl.DataFrame:
    """Of requests whose own id no row bears any more, the id that most of their rows bear now:
    they can be brought together, but not be named."""
    told = both.filter(pl.col("trace_id_0") == pl.col("trace_id_1"))
    told = pl.concat(
        [
            told["trace_id_1"],
            both.filter(pl.col("merged") | (pl.col("fault") == "id_format"))["trace_id_1"],
        ]
    )
    lost = both.filter(~pl.col("trace_id_1").is_in(told.unique().implode()))
    most = pl.col("trace_id").drop_nulls().mode().sort().first()
    names = lost.group_by(true="trace_id_1").agg(trace_id=most).drop_nulls()
    return names.select("trace_id", "true")


def _verdicts(both: pl.DataFrame) -> pl.DataFrame:
    kept = pl.col("fate") == "kept"
    grain = pl.col("way").replace_strict(UNITS, default=1_000, return_dtype=pl.Int64)
    coarse = pl.col("skewed") & (pl.col("start_ns_1") % 1_000_000 == 0)  # told as coarsely
    doubt = pl.col("clock_error_ns") + pl.when(coarse).then(1_000_000).otherwise(grain)
    right, same = {}, {}
    for name in COLUMNS:
        now, was, true = pl.col(name), pl.col(f"{name}_0"), pl.col(f"{name}_1")
        shown = now + pl.col("clock_offset_ns") if name == "start_ns" else now
        same[name] = shown.eq_missing(was)  # by its own clock
        right[name] = now.eq_missing(true)
        if name in TIMES:
            near = ((now - true).abs() <= doubt).fill_null(value=False)
            near = near & (
                ~same[name] | (pl.col("clock_offset_ns") != 0) | pl.col("way").is_in(list(UNITS))
            )
            right[name] = right[name] | near
    cut = (pl.col("fault") == "parent_cycle") & pl.col("parent_span_id").is_null()
    right["parent_span_id"] = right["parent_span_id"] | cut
    unread = {name: pl.col(name).is_null() & (pl.col("faults").list.len() > 0) for name in IDS}
    damaged = pl.any_horizontal(
        pl.col(f"{name}_0").ne_missing(pl.col(f"{name}_1")) for name in COLUMNS
    )
    double = pl.col("fault") == "span_duplicate"
    first = pl.col("fate").eq("kept").sum().over("origin") == 1
    under = pl.col("trace_id") == pl.col("under")  # as it came, the merger alone is left
    left = {
        name: same[name] | (under.fill_null(value=False) if name == "trace_id" else False)
        for name in COLUMNS
    }
    wrong = pl.any_horizontal(
        ~right[name] & ~left[name] & ~unread.get(name, pl.lit(value=False)) for name in COLUMNS
    )
    changed = pl.any_horizontal(~same[name] for name in COLUMNS)
    all_right = pl.all_horizontal(right.values())
    healthy_gone = ~damaged & ~double & (pl.col("fate") == "quarantined")
    return both.with_columns(
        damaged=damaged | double | (pl.col("skewed") | pl.col("zoned")),
        changed=((changed & kept) | healthy_gone),
        right=pl.when(double | (pl.col("fate") == "merged"))
        .then(first)
        .when(kept)
        .then(all_right)
        .otherwise(pl.lit(value=False)),
        wrong=(wrong & kept) | ((pl.col("fate") == "merged") & ~first),
        **{f"{name}_right": right[name] | (left[name] & ~same[name]) for name in COLUMNS},
    )


def _per_fault(rows: pl.DataFrame) -> pl.DataFrame:
    label = (
        pl.when(pl.col("fault") != "").then("fault")
        .when("merged").then(pl.lit("trace_merged"))
        .when("zoned").then(pl.lit("time_zone"))
        .when("skewed").then(pl.lit("clock_skew"))
        .otherwise(pl.lit("span_duplicate"))
    )  # fmt: skip
    can = pl.col("repairable").fill_null(value=False)
    return rows.group_by(fault=label, way="way").agg(
        planted=pl.len(),
        repairable=can.sum(),
        repaired=(can & pl.col("right")).sum(),
        luck=(~can & pl.col("right")).sum(),
        wrong=pl.col("wrong").sum(),
    )


def _per_rule(both: pl.DataFrame, found: spans.Repaired) -> pl.DataFrame:
    """Of the rows each rule changed, how many are right now in the columns it changed."""
    audit = found.audit.filter(pl.col("column_name") != "row").select(
        "row", "rule", column="column_name"
    )
    merged = found.audit.filter(pl.col("column_name") == "row").select("row", "rule")
    flags = both.select(
        "row",
        *(pl.col(f"{name}_right").alias(name) for name in COLUMNS),
        "wrong",
        "fate",
        *(pl.col(name).is_null().alias(f"{name}_null") for name in IDS),
    )
    long = flags.unpivot(
        index=["row", "fate"], on=list(COLUMNS), variable_name="column", value_name="ok"
    )
    gone = flags.unpivot(
        index="row", on=[f"{name}_null" for name in IDS], variable_name="column", value_name="none"
    ).with_columns(pl.col("column").str.strip_suffix("_null"))
    judged = (
        audit.unique()
        .join(long, on=["row", "column"])
        .join(gone, on=["row", "column"], how="left")
        .filter(pl.col("fate") == "kept", ~pl.col("none").fill_null(value=False) | pl.col("ok"))
        .group_by("row", "rule")
        .agg(pl.col("ok").all())
    )
    doubles = merged.join(flags.select("row", ok=~pl.col("wrong")), on="row")
    timed = both.filter(
        ~pl.col("fault").is_in(["time_unit", "time_implausible", "duration_negative"])
    )
    shifted = found.spans.filter(pl.col("clock_offset_ns") != 0).select(
        "row", rule=pl.lit("clock_skew")
    )
    shifted = shifted.join(timed, on="row", how="semi")
    moved = shifted.join(flags.select("row", ok="start_ns"), on="row")
    every = pl.concat(
        [judged.select("row", "rule", "ok"), doubles.select("row", "rule", "ok"), moved]
    )
    return every.group_by("rule").agg(changed=pl.len(), right=pl.col("ok").sum())


def bound(right: int, total: int, confidence: float = 0.95) -> float:
    """The share that is right at least, one-sided (Clopper and Pearson, Biometrika 1934)."""
    if not total:
        return 0.0
    return float(beta.ppf(1 - confidence, right, total - right + 1)) if right else 0.0


def generated(total: int, piece: int, seed: int) -> Iterator[pl.DataFrame]:
    """Generated spans in pieces of whole traces."""
    for number in range(max(total // piece, 1)):
        yield traffic.spans(min(piece, total), seed + number, minutes=600)


CLOCKS = {  # host → offset ms, drift ppm, second of a step, step ms
    "node-3": (40.0, 5.0, 1e9, 0.0),
    "node-8": (-25.0, -4.0, 1e9, 0.0),
    "node-13": (60.0, 2.0, 18_000.0, 200.0),
}


def run(
    pieces: Iterator[pl.DataFrame], rate: float, seed: int, verbose: bool, skewed: bool
) -> None:
    """Score pieces one after the other and print the sums."""
    rows, changes, healthy, size, took = [], [], 0, 0, 0.0
    for number, clean in enumerate(pieces):
        planted = corrupt(clean, rate, seed + number, CLOCKS if skewed else None)
        began = time.monotonic()
        found = score(clean, planted)
        took += time.monotonic() - began
        rows.append(found.rows)
        changes.append(found.changes)
        healthy += found.healthy.height
        size += clean.height
        if verbose:
            _show(found)
    _print(pl.concat(rows), pl.concat(changes), healthy, size, took)


def _show(found: Score) -> None:
    names = [f"{name}{end}" for name in COLUMNS for end in ("_1", "_0", "")]
    with pl.Config(tbl_rows=20, tbl_cols=40, tbl_width_chars=400, fmt_str_lengths=40):
        print(
            found.healthy.select(
                "service", "operation", "fault", "repaired", "faults", *names
            ).head(8)
        )
        print(
            found.bad.group_by("fault", "way", "wrong", "repaired", "faults")
            .len()
            .sort("len", descending=True)
            .head(40)
        )


def _print(rows: pl.DataFrame, changes: pl.DataFrame, healthy: int, size: int, took: float) -> None:
    faults = rows.group_by("fault", "way").sum().sort("fault", "way")
    rules = changes.group_by("rule").sum().sort("rule")
    total, right = int(rules["changed"].sum()), int(rules["right"].sum())
    rules = rules.with_columns(
        share=pl.col("right") / pl.col("changed"),
        at_least=pl.Series([bound(r, c) for c, r in rules.select("changed", "right").rows()]),
    )
    faults = faults.with_columns(share=pl.col("repaired") / pl.col("repairable"))
    with pl.Config(
        tbl_rows=100,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        float_precision=6,
        tbl_formatting="ASCII_MARKDOWN",
    ):
        print(faults)
        print(rules)
    print(f"{size} rows, {total} changed, {right} right ({right / max(total, 1):.6%}), "
          f"at least {bound(right, total):.6%} at 95 % confidence; {healthy} healthy rows changed; {took:.1f} s")  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", default="generated", choices=["generated", *sources.NAMES])
    parser.add_argument("--spans", type=int, default=100_000)
    parser.add_argument("--piece", type=int, default=500_000)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--clocks", action="store_true", help="three hosts' clocks are wrong too")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    if given.source == "generated":
        pieces = generated(given.spans, given.piece, given.seed)
    else:
        pieces = iter([sources.clean(given.source)] * (given.spans // 100_000))
    run(pieces, given.rate, given.seed, given.verbose, given.clocks)


if __name__ == "__main__":
    main()
