"""The floor holds: exactly once, whole days, strict types, locked SQL."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable

from lake import TABLES, Lake, LakeVersionError, Reading, SchemaError, UserError, empty, sql

NOON = datetime(2025, 3, 11, 12, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def samples(values: list[float], day: date = date(2025, 3, 11)) -> pl.DataFrame:
    rows = len(values)
    frame = pl.DataFrame({"value": values, "ts": [NOON] * rows, "date": [day] * rows})
    frame = frame.with_columns(
        pl.lit("up").alias("metric"), pl.lit(7, pl.Int64).alias("series"), ts=pl.col("ts")
    )
    missing = [name for name in TABLES["samples"].schema.names if name not in frame.columns]
    return frame.with_columns(pl.lit(None).alias(name) for name in missing)


def test_every_table_of_an_empty_lake_can_be_scanned_and_queried(lake: Lake) -> None:
    for name in TABLES:
        assert lake.scan(name).collect().equals(empty(TABLES[name]))
        assert sql(lake, f"select count(*) from {name}")[0][0].as_py() == 0
        assert sql(lake, f"select * from {name}").column_names == TABLES[name].schema.names


def test_a_batch_lands_once_however_often_it_is_sent(lake: Lake) -> None:
    assert lake.append("samples", samples([1.0]), {"prometheus/a": 1})
    assert not lake.append("samples", samples([1.0]), {"prometheus/a": 1})
    assert lake.append("samples", samples([2.0]), {"prometheus/a": 2})
    assert sorted(lake.read("samples")["value"]) == [1.0, 2.0]
    asked = lake.transactions("samples", ["prometheus/a", "prometheus/b"])
    assert asked == {"prometheus/a": 2, "prometheus/b": -1}


def test_replacing_a_day_leaves_the_others(lake: Lake) -> None:
    other = date(2025, 3, 12)
    lake.append("samples", pl.concat([samples([1.0, 2.0]), samples([9.0], other)]))
    lake.replace_day("samples", date(2025, 3, 11), samples([3.0]))
    assert sorted(lake.read("samples")["value"]) == [3.0, 9.0]
    assert lake.days("samples") == [date(2025, 3, 11), other]
    lake.replace_day("samples", other, samples([]))
    assert lake.read("samples")["value"].to_list() == [3.0]


def test_rows_of_another_day_do_not_slip_into_a_replaced_one(lake: Lake) -> None:
    with pytest.raises(UserError, match="1 rows lie outside"):
        lake.replace_day("samples", date(2025, 3, 12), samples([1.0]))


def test_a_fraction_never_becomes_a_whole_number(lake: Lake) -> None:
    rows = samples([1.0]).with_columns(pl.lit(1.5).alias("series"))
    with pytest.raises(SchemaError, match=r"samples\.series holds Int64"):
        lake.append("samples", rows)
    assert lake.version("samples") == 0


def test_a_missing_or_unknown_column_is_named(lake: Lake) -> None:
    with pytest.raises(SchemaError, match="lacks metric and has unknown metrik"):
        lake.append("samples", samples([1.0]).rename({"metric": "metrik"}))


def test_pairs_become_a_map_and_come_back(lake: Lake) -> None:
    labels = [{"key": "job", "value": "shop"}]
    rows = empty(TABLES["series"]).drop("labels")
    rows = pl.concat(
        [rows, pl.DataFrame({"metric": ["up"], "series": [1]})], how="diagonal"
    ).with_columns(pl.Series("labels", [labels]))
    lake.append("series", rows)
    assert lake.read("series")["labels"].map.get("job").to_list() == ["shop"]


def test_updating_a_small_table_commits_only_a_change(lake: Lake) -> None:
    row = {"rule": ["clock_skew"], "run": [None], "date": [None], "reason": ["wrong"]}
    new = pl.DataFrame({**row, "since": [NOON]})
    add = lambda old: pl.concat([old, new], how="diagonal_relaxed").unique()  # noqa: E731
    assert lake.update("suppressions", add)
    assert not lake.update("suppressions", add)
    assert lake.version("suppressions") == 1


def test_a_file_is_pruned_by_its_day(lake: Lake) -> None:
    lake.append("samples", pl.concat([samples([1.0]), samples([2.0], date(2025, 3, 12))]))
    assert len(lake.files("samples")) == 2
    assert len(lake.files("samples", {"date": date(2025, 3, 12)})) == 1


def test_a_long_query_draws_nothing_on_standard_output(lake: Lake) -> None:
    asked = "SELECT current_setting('enable_progress_bar') AS bar, count(*) AS n FROM spans"
    assert sql(lake, asked).to_pylist() == [{"bar": False, "n": 0}]
    with Reading(lake, ["spans"]) as reading:
        assert reading.sql(asked).to_pylist() == [{"bar": False, "n": 0}]


def test_sql_sees_an_older_version_when_asked(lake: Lake) -> None:
    lake.append("samples", samples([1.0]))
    before = lake.version("samples")
    lake.append("samples", samples([2.0]))
    count = "select count(*) from samples"
    assert sql(lake, count)[0][0].as_py() == 2
    assert sql(lake, count, {"samples": before})[0][0].as_py() == 1


@pytest.mark.parametrize(
    "query",
    [
        "copy (select 1) to '{here}/x.csv'",
        "select * from read_csv('/etc/passwd')",
        "select 1; select 2",
        "set enable_external_access=true",
        "attach '{here}/x.db'",
        "install httpfs",
        "select * from read_parquet('{here}/lake/*/*.parquet')",
        "select from where",
        "",
    ],
)
def test_sql_can_neither_write_nor_look_elsewhere(lake: Lake, tmp_path: Path, query: str) -> None:
    with pytest.raises(UserError):
        sql(lake, query.format(here=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["lake"]


def test_a_lake_of_a_newer_version_is_left_alone(lake: Lake) -> None:
    table = DeltaTable(lake.uri("spans"))
    table.alter.set_table_properties({"rootlake.format": "99"}, raise_if_not_exists=False)
    with pytest.raises(LakeVersionError, match="format 99"):
        lake.require()


def test_a_table_of_a_newer_delta_protocol_is_left_alone(lake: Lake) -> None:
    log = Path(lake.uri("spans")) / "_delta_log" / "00000000000000000001.json"
    protocol = {"minReaderVersion": 99, "minWriterVersion": 99}
    log.write_text(json.dumps({"protocol": protocol}))
    with pytest.raises(LakeVersionError):
        lake.require()


def test_no_lake_is_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no lake at"):
        Lake(tmp_path / "nowhere").require()


def test_a_table_that_is_not_ours_to_write_is_refused_in_one_sentence(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lake.tables.os.access", lambda *_: False)  # as root it could be written
    with pytest.raises(UserError, match="samples cannot be written to from here"):
        lake.replace_day("samples", date(2025, 3, 11), samples([1.0]))
