"""A real Prometheus with what makes metrics hard: resets, gaps, late samples, restarts, native
histograms; read whole by remote-read and by the query API."""

from __future__ import annotations

import math
import struct
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ingest import xor
from ingest.run import ingest
from lake import Lake, UserError
from quality.run import repair

from . import faulty
from . import quality_traces as traces
from .servers import field, free_port, prometheus, remote_write, varint, written, zigzag

FLAGS = ("--web.enable-remote-write-receiver", "--enable-feature=native-histograms")
STALE = struct.unpack(">d", struct.pack(">Q", 0x7FF0000000000002))[0]


def now() -> int:
    """The present whole second, in ms."""
    return int(time.time()) * 1000


def samples(lake: Lake, metric: str) -> list[tuple[int, float]]:
    """(ms, value) of a metric, in time order."""
    rows = lake.scan("raw_samples").filter(pl.col("metric") == metric)
    return rows.select(pl.col("ts").dt.epoch("ms"), "value").sort("ts").collect().rows()


def test_restart_reset_late_sample_and_a_series_that_ends_are_exact(tmp_path: Path) -> None:
    base = now() - 1_800_000
    counter = [(base + 15_000 * i, float(i % 40)) for i in range(100)]
    ended = [*counter[:50], (counter[50][0], STALE)]
    late = (base + 15_000 * 20 + 7_000, 99.0)
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, b"", *FLAGS) as url:
        remote_write(url, written({"__name__": "a_total"}, counter[:60]))
        remote_write(url, written({"__name__": "gone"}, ended))
        until = datetime.fromtimestamp((base + 15_000 * 59 + 5_000) / 1000, UTC)
        ingest(lake, "prometheus", url, until=until, overlap=3600)
    with prometheus(tmp_path, b"", *FLAGS) as other:  # the same data, started anew elsewhere
        remote_write(other, written({"__name__": "a_total"}, counter[60:]))
        remote_write(other, written({"__name__": "a_total"}, [late]))
        with faulty.serving(faulty.proxy(other)) as front:
            del front  # a cursor belongs to an address; the backfill below covers all
        since = datetime.fromtimestamp(base / 1000, UTC)
        fresh = Lake(tmp_path / "fresh")
        end = since + timedelta(hours=1)
        ingest(fresh, "prometheus", other, since=since, until=end, window=300)
        ranged = Lake(tmp_path / "ranged")
        ingest(ranged, "prometheus", other, since=since, until=end, api="range")
    assert samples(lake, "a_total") == counter[:60]
    assert samples(fresh, "a_total") == sorted([*counter, late])
    assert samples(ranged, "a_total") == sorted([*counter, late])
    gone = samples(fresh, "gone")
    assert gone[:-1] == ended[:-1]
    bits = np.array([gone[-1][1]]).view(np.uint64)[0]
    assert bits == 0x7FF0000000000002, "the stale marker is kept to the bit"
    assert samples(ranged, "gone") == ended[:-1], "the query API does not show stale markers"


def test_a_pull_goes_on_over_a_restart_of_the_server(tmp_path: Path) -> None:
    base = now() - 1_800_000
    counter = [(base + 15_000 * i, float(i % 40)) for i in range(100)]  # it starts anew twice
    late = (base + 15_000 * 55 + 7_000, 99.0)
    ended = [*counter[:70], (counter[70][0], STALE)]
    lake, port = Lake(tmp_path / "lake"), free_port()

    def until(at: int) -> datetime:
        return datetime.fromtimestamp((at + 1) / 1000, UTC)

    with prometheus(tmp_path, b"", *FLAGS, port=port) as url:
        remote_write(url, written({"__name__": "a_total"}, counter[:60]))
        remote_write(url, written({"__name__": "gone"}, ended[:60]))
        assert ingest(lake, "prometheus", url, until=until(counter[59][0])).rows == 120
    with pytest.raises(UserError, match="no Prometheus server answers"):
        ingest(lake, "prometheus", url, until=until(counter[65][0]), attempts=1)
    with prometheus(tmp_path, b"", *FLAGS, port=port) as url:
        remote_write(url, written({"__name__": "a_total"}, counter[60:]))
        remote_write(url, written({"__name__": "a_total"}, [late]))
        remote_write(url, written({"__name__": "gone"}, ended[60:]))
        for at in (counter[75][0], counter[99][0], counter[99][0]):
            ingest(lake, "prometheus", url, until=until(at))
    assert samples(lake, "a_total") == sorted([*counter, late])
    gone = samples(lake, "gone")
    assert gone[:-1] == ended[:-1]
    assert (gone[-1][0], math.isnan(gone[-1][1])) == (counter[70][0], True)


def test_late_samples_within_the_overlap_are_fetched_and_nothing_is_doubled(
    tmp_path: Path,
) -> None:
    base = now() - 1_200_000
    points = [(base + 15_000 * i, float(i)) for i in range(40)]
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, b"", *FLAGS) as url:
        remote_write(url, written({"__name__": "up"}, points[:10] + points[11:30]))
        middle = datetime.fromtimestamp((points[29][0] + 1000) / 1000, UTC)
        assert ingest(lake, "prometheus", url, until=middle, overlap=600).rows == 29
        remote_write(url, written({"__name__": "up"}, [points[10]]))
        remote_write(url, written({"__name__": "up"}, points[30:]))
        end = datetime.fromtimestamp((points[-1][0] + 1000) / 1000, UTC)
        assert ingest(lake, "prometheus", url, until=end, overlap=600).rows == 11
        assert ingest(lake, "prometheus", url, until=end, overlap=600).rows == 0
    assert samples(lake, "up") == points


def spans(*pairs: tuple[int, int]) -> list[bytes]:
    """BucketSpans of (offset, length)."""
    return [field(1, zigzag(offset)) + field(2, length) for offset, length in pairs]


def histogram(at: int, scale: int) -> bytes:
    """A native histogram at a time (ms)."""
    deltas = b"".join(varint(zigzag(one * scale)) for one in (2, -1, 3))
    body = field(1, 8 * scale + 3) + field(3, 12.5 * scale) + field(4, zigzag(1))
    body += field(5, 0.001) + field(6, 3)
    for one in spans((0, 2), (1, 1)):
        body += field(11, one)
    return field(4, body + field(12, deltas) + field(15, at))


def test_native_histograms_come_whole_bucket_by_bucket(tmp_path: Path) -> None:
    base = now() - 600_000
    times = [base + 15_000 * i for i in range(20)]
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, b"", *FLAGS) as url:
        for place, at in enumerate(times):
            remote_write(
                url, written({"__name__": "latency", "path": "/"}, (), histogram(at, place + 1))
            )
        since = datetime.fromtimestamp(base / 1000, UTC)
        end = datetime.fromtimestamp((times[-1] + 1000) / 1000, UTC)
        for _ in range(2):
            ingest(lake, "prometheus", url, since=since, until=end)
    found = lake.read("raw_histograms").sort("ts")
    assert found["ts"].dt.epoch("ms").to_list() == times
    assert found["count"].to_list() == [8.0 * (i + 1) + 3 for i in range(20)]
    assert found["sum"].to_list() == [12.5 * (i + 1) for i in range(20)]
    assert found["positive_deltas"].to_list() == [[2 * i, -i, 3 * i] for i in range(1, 21)]
    row = found.row(0, named=True)
    assert (row["schema"], row["zero_count"]) == (1, 3.0)
    assert math.isclose(row["zero_threshold"], 0.001)
    assert row["positive_spans"] == [{"offset": 0, "length": 2}, {"offset": 1, "length": 1}]
    assert row["negative_deltas"] == []


def exemplar(trace: str, span: str, at: int) -> bytes:
    """An exemplar of a remote write at a time (ms)."""
    labels = {"trace_id": trace, "span_id": span}
    told = b"".join(
        field(1, field(1, key.encode()) + field(2, one.encode())) for key, one in labels.items()
    )
    return field(3, told + field(2, 0.5) + field(3, at))


def test_an_exemplar_that_was_mended_is_not_delivered_again(tmp_path: Path) -> None:
    row = next(one for one in traces.rows(5) if one["service"] == "cart")
    base = now() - 600_000
    lake = Lake(tmp_path / "lake").create()
    span = traces.raw([{**row, "start": base * 1000}])
    moment = pl.lit(datetime.now(UTC)).cast(pl.Datetime("us", "UTC"))
    lake.append("raw_spans", span.with_columns(ingested_at=moment))
    damaged = exemplar("F" * 32, row["span_id"].upper(), base + 1)
    labels = {"__name__": "latency_bucket", "job": "shop/cart", "le": "1"}
    flags = ("--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage")
    with prometheus(tmp_path, b"", *flags) as url:
        remote_write(url, written(labels, [(base, 1.0)], damaged))
        for _ in range(2):
            since = datetime.fromtimestamp(base / 1000 - 1, UTC)
            ingest(lake, "prometheus", url, since=since)
            repair(lake)
            found = lake.read("exemplars").select("trace_id", "span_id").rows()
            assert found == [(row["trace_id"], row["span_id"])]
    audit = lake.read("repairs").filter(table_name="exemplars")
    assert audit.filter(rule="id_reference")["before"].to_list() == ["f" * 32]


def fractions(at: int) -> bytes:
    """A native histogram of rates at a time (ms)."""
    counts = b"".join(struct.pack("<d", one) for one in (0.25, 0.5, 0.75))
    body = field(2, 1.5) + field(3, 2.5) + field(4, zigzag(1)) + field(5, 0.001)
    for one in spans((0, 2), (1, 1)):
        body += field(11, one)
    return field(4, body + field(13, counts) + field(15, at))


def test_native_histograms_of_fractions_are_kept_and_counted_not_cut_to_whole_numbers(
    tmp_path: Path,
) -> None:
    base = now() - 600_000
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, b"", *FLAGS) as url:
        remote_write(url, written({"__name__": "rate"}, (), fractions(base)))
        remote_write(url, written({"__name__": "latency"}, (), histogram(base, 1)))
        since = datetime.fromtimestamp(base / 1000, UTC)
        ingest(lake, "prometheus", url, since=since)
    assert lake.read("raw_histograms")["metric"].to_list() == ["latency"]
    (kept,) = lake.read("quarantine").to_dicts()
    assert kept["reason"].startswith("native histograms of fractions")
    assert "'rate'" in kept["raw_row"]


def test_selectors_and_a_cap_that_is_counted_and_shown(tmp_path: Path) -> None:
    base = now() - 600_000
    with prometheus(tmp_path, b"", *FLAGS) as url:
        for place in range(5):
            for name in ("wide", "other"):
                labels = {"__name__": name, "path": f"/{place}"}
                remote_write(url, written(labels, [(base + 1000 * i, 1.0) for i in range(10)]))
        lake = Lake(tmp_path / "lake")
        since = datetime.fromtimestamp(base / 1000, UTC)
        landed = ingest(
            lake,
            "prometheus",
            url,
            since=since,
            selectors=['wide{path=~"/[0-3]"}', "wide"],
            max_series=3,
        )
    assert (landed.rows, landed.left_out) == (30, {"wide": 20})
    assert lake.read("raw_samples")["metric"].unique().to_list() == ["wide"]
    kept = lake.scan("scorecard").filter(pl.col("check_name") == "left_out").collect()
    assert kept.select("service", "rows").rows() == [("wide", 20)]


@pytest.mark.parametrize("selector", ["up{", '{job="a"', "{job=a}", "{}", ""])
def test_a_selector_that_is_none_is_refused_before_any_request(
    selector: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="selector"):
        ingest(Lake(tmp_path / "lake"), "prometheus", "http://127.0.0.1:9", selectors=[selector])


def test_a_prometheus_that_is_overloaded_is_asked_as_often_as_set(tmp_path: Path) -> None:
    asked = []

    def route(path: str, _params: faulty.Params) -> faulty.Answer:
        asked.append(path)
        return faulty.answer({}, 503 if path == "/api/v1/metadata" else 200)

    with faulty.serving(route) as url, pytest.raises(UserError, match="did not answer in 2 tries"):
        ingest(Lake(tmp_path / "lake"), "prometheus", url, attempts=2, backoff=0.01)
    assert asked.count("/api/v1/metadata") == 2


@pytest.mark.parametrize("numba", [True, False])
def test_a_prometheus_behind_a_bad_line_is_read_exactly(
    numba: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not numba:
        monkeypatch.setattr(xor, "compiled", lambda: None)
    base = now() - 3_000_000
    points = [(base + 5_000 * i, float(i % 7) / 3) for i in range(500)]
    with prometheus(tmp_path, b"", *FLAGS) as url:
        for name in "abc":
            remote_write(url, written({"__name__": name, "job": "x"}, points))
        faults = faulty.Faults(3, 0.3)
        with faulty.serving(faulty.proxy(url), faults) as front:
            lake = Lake(tmp_path / "lake")
            since = datetime.fromtimestamp(base / 1000, UTC)
            options = {"timeout": 0.4, "backoff": 0.01, "attempts": 12, "window": 400}
            ingest(lake, "prometheus", front, since=since, **options)
    assert sum(faults.seen.values()) > 3
    for name in "abc":
        assert samples(lake, name) == points
