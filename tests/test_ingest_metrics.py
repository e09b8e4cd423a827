"""Metrics: text in columns, and a real Prometheus read to the last bit."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import openmetrics, remote_read, wire
from ingest.batch import Place
from ingest.cardinality import metrics
from ingest.run import ingest
from lake import Lake, UserError

from .conftest import rootlake
from .servers import prometheus

TEXT = """# HELP requests Requests, all of them.
# TYPE requests counter
requests_total{path="/a b",code="200"} 3 1741701600
requests_total{path="/\\"x\\\\}",code="500"} 4.5 1741701600.25 # {trace_id="ab"} 0.5
# TYPE heat gauge
# UNIT heat celsius
heat NaN 1741701601
heat{cluster="eu-1"} +Inf 1741701601
heat nonsense 1741701601
heat 7
{what is this
# EOF
"""
LATE = datetime(2025, 3, 12, tzinfo=UTC)


def test_every_line_is_a_sample_or_refused() -> None:
    batch = openmetrics.decode(TEXT, Place(cluster="us-1"), "x")
    assert (batch.records, batch.rows.height, batch.rejected.height) == (7, 4, 3)
    assert batch.rejected["reason"].to_list() == [
        "the value is no number",
        "no timestamp",
        "not a sample line",
    ]


def test_labels_types_units_and_places_are_read() -> None:
    batch = openmetrics.decode(TEXT, Place(cluster="us-1"), "x")
    assert batch.series is not None
    series = {row["metric"]: row for row in batch.series.to_dicts()}
    assert series["requests_total"]["type"] == "counter"
    assert series["heat"]["unit"] == "celsius"
    labels = batch.series["labels"].map.get("path").drop_nulls().to_list()
    assert labels == ["/a b", '/"x\\}']
    assert batch.rows["cluster"].to_list() == ["us-1", "us-1", "us-1", "eu-1"]
    assert math.isnan(batch.rows["value"][2])
    assert batch.rows["value"][3] == math.inf
    assert batch.rows["ts"][1].microsecond == 250_000


def test_an_exemplar_is_kept() -> None:
    batch = openmetrics.decode(TEXT, Place(), "x")
    assert batch.exemplars is not None
    assert batch.exemplars.select("trace_id", "value").rows() == [("ab", 0.5)]


def test_a_cut_text_is_refused() -> None:
    with pytest.raises(UserError, match="# EOF"):
        openmetrics.decode(TEXT.replace("# EOF\n", ""), Place(), "x")


def message(value: float, at: int) -> bytes:
    """A remote-read Sample as Prometheus encodes it: a zero value is left out."""
    bits = np.float64(value).tobytes()
    body = (b"" if bits == bytes(8) else b"\x09" + bits) + b"\x10" + wire.varint(at)
    return b"\x12" + bytes([len(body)]) + body


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.just(0.0), st.floats(allow_nan=True)),
            st.integers(0, 1 << 45),
        ),
        max_size=60,
    )
)
def test_samples_are_decoded_bit_by_bit(rows: list[tuple[float, int]]) -> None:
    block = np.frombuffer(b"".join(message(value, at) for value, at in rows), np.uint8)
    times, values = remote_read._samples(block)
    assert times.tolist() == [at for _, at in rows]
    given_bits = [np.float64(value).tobytes() for value, _ in rows]
    assert [value.tobytes() for value in values] == given_bits


def test_a_real_prometheus_is_pulled_and_continued(tmp_path: Path) -> None:
    lines = [
        f'up{{job="a"}} {v} {1741701600 + 60 * i}' for i, v in enumerate([1, 0, "NaN", 2.5] * 40)
    ]
    text = "# TYPE up gauge\n" + "\n".join(lines) + "\n# EOF\n"
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, text.encode()) as url:
        assert ingest(lake, "prometheus", url, until=LATE).rows == 160
        assert ingest(lake, "prometheus", url, until=LATE).rows == 0
        since = datetime(2025, 3, 11, 14, tzinfo=UTC)
        other = Lake(tmp_path / "other")
        ingest(
            other,
            "prometheus",
            url,
            since=since,
            until=datetime(2025, 3, 11, 15, tzinfo=UTC),
        )
        assert other.read("raw_samples").height == 60
    wanted = openmetrics.decode(text, Place(), "x").rows
    columns = ["series", "ts", "value"]
    assert (
        lake.read("raw_samples")
        .select(columns)
        .sort(columns[:2])
        .equals(wanted.select(columns).sort(columns[:2]))
    )


def test_what_is_no_prometheus_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Prometheus server answers at http://127\.0\.0\.1:9"):
        ingest(Lake(tmp_path / "lake"), "prometheus", "http://127.0.0.1:9", attempts=2)
    assert not (tmp_path / "lake").exists()


def test_train_ticket_metrics_come_back_from_a_real_server(real_data: Path, tmp_path: Path) -> None:
    """All metrics of some services; all of them as a file: `test_real_data`."""
    whole = gzip.decompress((real_data / "train-ticket/prometheus/metrics.om.gz").read_bytes())
    lines = whole.decode().splitlines(keepends=True)
    text = "".join(one for one in lines if one[0] == "#" or 'service="ts-order' in one)
    lake = Lake(tmp_path / "lake")
    with prometheus(tmp_path, text.encode()) as url:
        landed = ingest(lake, "prometheus", url, until=datetime(2023, 2, 1, tzinfo=UTC))
    columns = ["series", "ts", "value"]
    mine = lake.scan("raw_samples").select(columns).sort(columns[:2]).collect()
    wanted = openmetrics.decode(text, Place(), "x").rows.select(columns)
    assert landed.rows == wanted.height > 50_000
    assert wanted["value"].is_nan().any()
    assert mine.equals(wanted.sort(columns[:2]))


def test_one_series_has_one_name_in_every_process() -> None:
    assert openmetrics.fingerprint("up", {"b": "2", "a": "1"}) == openmetrics.fingerprint(
        "up", {"a": "1", "b": "2"}
    )
    assert openmetrics.fingerprint("up", {"a": "1"}) == -242227391563483953


def test_a_series_seen_again_is_widened_not_doubled(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for number, at in enumerate((1741701600, 1741701660)):
        file = tmp_path / f"{number}.om"
        file.write_text(f"# TYPE up gauge\nup {number} {at}\n# EOF\n")
        ingest(lake, "prometheus", file)
    series = lake.read("series")
    assert series.height == 1
    assert (series["last_seen"] - series["first_seen"]).dt.total_seconds().to_list() == [60]
    assert lake.scan("samples").select(pl.len()).collect().item() == 0


def test_the_dearest_metrics_and_labels_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.om"
    lines = [f'requests_total{{path="/{n}",job="shop"}} {n} 1741701600\n' for n in range(9)]
    head = "# TYPE requests counter\n# TYPE up gauge\n"
    file.write_text(head + "".join(lines) + 'up{job="shop"} 1 1741701600\n# EOF\n')
    lake = Lake(tmp_path / "lake")
    ingest(lake, "prometheus", file)
    first, second = metrics(lake).to_dicts()
    assert first == {
        "metric": "requests_total",
        "type": "counter",
        "series": 9,
        "samples": 9,
        "share": 0.9,
        "left_out": 0,
        "label": "path",
        "values": 9,
    }
    assert second["metric"] == "up"
    shown = rootlake("--lake", lake.root, "cardinality", "--top", "1").stdout
    assert "90.0%" in shown
    assert "1 metrics not shown" in shown
