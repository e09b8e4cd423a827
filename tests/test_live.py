"""Live servers of traces, errors, logs and clusters: complete, once, and polite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ingest import land
from ingest.run import ingest
from lake import BusyError, Lake, UserError

from . import faulty, soak
from .conftest import SHARED, rootlake

START = datetime(2025, 3, 11, 14, tzinfo=UTC)
END = datetime(2025, 3, 11, 15, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000
FAST = {"timeout": 0.5, "backoff": 0.01}


def spans(count: int, per_trace: int = 2) -> list[dict[str, Any]]:
    """Spans of many traces within the hour, alternately of two services."""
    return [
        {
            "traceID": f"{trace:032x}",
            "spanID": f"{trace:08x}{place:08x}",
            "service": ("cart", "web")[place % 2],
            "startTime": MICROS + (trace * 613_337) % 3_600_000_000 + place,
            "visible": 0,
        }
        for trace in range(count)
        for place in range(per_trace)
    ]


def test_five_thousand_traces_behind_a_limit_of_a_hundred_are_complete(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with faulty.serving(faulty.Jaeger(spans(5000))) as url:
        landed = ingest(lake, "jaeger", url, since=START, until=END, limit=100, window=3600)
        assert landed.rows == 10_000
        assert ingest(lake, "jaeger", url, since=START, until=END, limit=100).rows == 0
    rows = lake.read("raw_spans")
    assert rows.select("trace_id", "span_id").n_unique() == rows.height == 10_000


def test_more_traces_at_one_instant_than_a_reply_holds_is_said_and_nothing_written(
    tmp_path: Path,
) -> None:
    same = [{**one, "startTime": MICROS} for one in spans(10, 1)]
    with (
        faulty.serving(faulty.Jaeger(same)) as url,
        pytest.raises(UserError, match="raise `limit` above 5"),
    ):
        ingest(Lake(tmp_path / "lake"), "jaeger", url, since=START, until=END, limit=5)
    assert not (tmp_path / "lake").exists()


def test_a_trace_that_grows_is_read_again_and_its_old_spans_are_not(tmp_path: Path) -> None:
    server = faulty.Jaeger([{**one, "visible": one["startTime"]} for one in spans(3, 4)])
    server.spans[2]["visible"] = MICROS + 100_000_000  # type: ignore[index]
    lake = Lake(tmp_path / "lake")
    with faulty.serving(server) as url:
        server.clock = MICROS + 50_000_000
        until = datetime.fromtimestamp(server.clock / 1e6, UTC)
        assert ingest(lake, "jaeger", url, until=until).rows == 11
        server.clock = MICROS + 200_000_000
        until = datetime.fromtimestamp(server.clock / 1e6, UTC)
        assert ingest(lake, "jaeger", url, until=until).rows == 1


def test_api_v3_is_spoken_where_v1_is_not(tmp_path: Path) -> None:
    folder = SHARED / "fixtures" / "jaeger"
    if not folder.is_dir():
        pytest.skip("../shared/fixtures is not here: vendors' payloads are not in the project")
    reply = json.loads((folder / "apiv3-GetTrace.json").read_text())
    span = reply["result"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["startTimeUnixNano"] = str(MICROS * 1000)
    span["endTimeUnixNano"] = str(MICROS * 1000 + 5)

    def route(path: str, params: faulty.Params) -> faulty.Answer:
        if path == "/api/v3/services":
            return faulty.answer({"services": ["web"]})
        if path == "/api/v3/traces":
            low = datetime.fromisoformat(params["query.start_time_min"])
            high = datetime.fromisoformat(params["query.start_time_max"])
            return faulty.answer(reply if low <= START <= high else {})
        return faulty.answer({}, 404)

    lake = Lake(tmp_path / "lake")
    with faulty.serving(route) as url:
        assert ingest(lake, "jaeger", url, since=START, until=END, window=600).rows == 1
    assert lake.read("raw_spans")["operation"].to_list() == ["foobar"]


def events(count: int) -> list[dict[str, Any]]:
    return [
        {"eventID": f"{place:032x}", "at": MICROS + place * 1_000_000, "visible": 0}
        for place in range(count)
    ]


def test_sentry_pages_are_followed_and_users_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOTLAKE_SALT", "s")
    server = faulty.Sentry(events(40))
    server.repeat = 2
    lake = Lake(tmp_path / "lake")
    with faulty.serving(server) as url:
        options = {"organization": "acme", "mask": ["environment"]}
        assert ingest(lake, "sentry", url, since=START, until=END, **options).rows == 40
        assert ingest(lake, "sentry", url, until=END, **options).rows == 0
    rows = lake.read("raw_errors")
    assert rows["event_id"].n_unique() == rows.height == 40
    row = rows.row(0, named=True)
    assert "example.com" not in str(row)
    assert (row["project"], row["type"], row["trace_id"]) == ("shop", "ValueError", "ab" * 16)
    assert row["stacktrace"] == [{"file": "a.py", "function": None, "line": 3, "in_app": True}]
    first = "1970-01-01T00:00:00"
    tags = dict(row["tags"])
    assert tags.pop("issue.first_seen").startswith(first)
    assert tags == {"environment": "***", "issue": "SHOP-1"}


def test_a_token_is_sent_and_never_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "tops3cret")

    def route(_path: str, _params: faulty.Params) -> faulty.Answer:
        return faulty.answer({"detail": "Invalid token"}, 401)

    with faulty.serving(route) as url, pytest.raises(UserError) as told:
        ingest(Lake(tmp_path / "lake"), "sentry", url, organization="acme", token_env="MY_TOKEN")
    assert "401" in str(told.value)
    assert "Invalid token" in str(told.value)
    assert "tops3cret" not in str(told.value)


def test_the_published_examples_of_sentry_are_read(tmp_path: Path) -> None:
    file = SHARED / "fixtures" / "sentry" / "api-schema-extract.json"
    if not file.exists():
        pytest.skip("../shared/fixtures is not here: vendors' payloads are not in the project")
    paths = json.loads(file.read_text())["paths"]
    bodies = {}
    for path, methods in paths.items():
        told = methods["get"]["responses"]["200"]["content"]["application/json"]
        bodies[path] = next(iter(told["examples"].values()))["value"]
    base = "/api/0/projects/{organization_id_or_slug}/{project_id_or_slug}/events/"
    whole = bodies[base + "{event_id}/"]

    def route(path: str, _params: faulty.Params) -> faulty.Answer:
        if path == "/api/0/projects/acme/shop/events/":
            return faulty.answer(bodies[base])
        if path.startswith("/api/0/projects/acme/shop/events/"):
            return faulty.answer({**whole, "eventID": path.split("/")[-2]})
        return faulty.answer({"detail": "not found"}, 404)

    lake = Lake(tmp_path / "lake")
    low, high = datetime(2015, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    with faulty.serving(route) as url:
        landed = ingest(
            lake,
            "sentry",
            url,
            since=low,
            until=high,
            organization="acme",
            projects=["shop"],
            window=1e9,
        )
    assert landed.rows == len({one["eventID"] for one in bodies[base]})
    assert landed.quarantined == 0
    row = lake.read("raw_errors").row(0, named=True)
    assert row["stacktrace"]


def test_loki_lines_come_once_in_order(tmp_path: Path) -> None:
    lines = [
        {
            "pod": "cart-7d9f8b6c5-abcde",
            "at": MICROS + place * 7_000_000,
            "text": f"ERROR order {place} trace_id={place:032x}",
            "visible": 0,
        }
        for place in range(300)
    ]
    lake = Lake(tmp_path / "lake")
    with faulty.serving(faulty.Loki(lines), faulty.Faults(5, 0.2)) as url:
        options = {**FAST, "limit": 20, "attempts": 12}
        assert ingest(lake, "loki", url, since=START, until=END, **options).rows == 300
    row = lake.read("raw_logs").sort("ts").row(7, named=True)
    assert (row["service"], row["severity"], row["trace_id"]) == ("cart", "ERROR", f"{7:032x}")
    assert row["ts"] == datetime.fromtimestamp((MICROS + 49_000_000) / 1e6, UTC)


def test_a_cluster_is_listed_page_by_page(tmp_path: Path) -> None:
    event = {
        "reason": "OOMKilling",
        "message": "killed",
        "lastTimestamp": "2025-03-11T14:00:00Z",
        "involvedObject": {"kind": "Pod", "name": "cart-7d9f8b6c5-abcde", "namespace": "shop"},
    }

    def route(path: str, params: faulty.Params) -> faulty.Answer:
        if path != "/api/v1/events":
            return faulty.answer({"kind": "List", "items": []})
        page = int(params.get("continue", 0))
        items = [{**event, "message": f"killed {page}"}, {**event, "reason": f"R{page}"}]
        items[1]["lastTimestamp"] = f"2025-03-11T14:0{page}:30Z"
        items[0]["lastTimestamp"] = f"2025-03-11T14:0{page}:00Z"
        more = {"continue": str(page + 1)} if page < 2 else {}
        return faulty.answer({"kind": "EventList", "metadata": more, "items": items})

    lake = Lake(tmp_path / "lake")
    with faulty.serving(route) as url:
        assert ingest(lake, "k8s", url, cluster="eu-1").rows == 6
        assert ingest(lake, "k8s", url, cluster="eu-1").rows == 0
    rows = lake.read("changes")
    assert set(rows["service"]) == {"cart"}
    assert set(rows["cluster"]) == {"eu-1"}


def test_a_second_pull_of_a_source_stops_and_says_who_is_at_it(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    with faulty.serving(faulty.Jaeger(spans(3))) as url:
        with (
            lake.lock(f"ingest of jaeger {url}"),
            pytest.raises(BusyError, match=r"another ingest of jaeger .* is running \(process"),
        ):
            ingest(lake, "jaeger", url, since=START, until=END)
        assert ingest(lake, "jaeger", url, since=START, until=END).rows == 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["jaeger", "http://127.0.0.1:9", "--set", "nonsense=1"], "no setting 'nonsense'"),
        (["jaeger", "http://127.0.0.1:9", "--set", "limit=many"], "limit = 'many'"),
        (["sentry", "http://127.0.0.1:9"], "organization is missing"),
        (["loki", "http://127.0.0.1:9", "--set", "attempts=1"], "did not answer in 1 tries"),
    ],
)
def test_what_is_wrong_with_a_source_is_one_sentence(
    words: list[str], says: str, tmp_path: Path
) -> None:
    done = rootlake("--lake", tmp_path / "lake", "ingest", *words)
    assert done.returncode in {1, 2}
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "lake").exists()


@pytest.fixture(scope="module")
def soaked() -> Iterator[None]:
    """What soak runs share."""
    with soak.shared():
        yield


@pytest.mark.parametrize("seed", range(9), ids=sorted(soak.SOURCES))
def test_soak_in_short(seed: int, soaked: None) -> None:
    soak.once(1008 + seed)


@pytest.mark.parametrize("broken", ["doubles", "forgets late rows"])
def test_the_soak_notices_a_broken_pull(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "doubles":
        monkeypatch.setattr(land, "fresh", lambda _lake, _piece, batch: batch)
    else:
        monkeypatch.setitem(soak.OPTIONS, "overlap", 0)
    monkeypatch.setattr(soak, "SOURCES", {"jaeger": ("jaeger", soak.jaeger)})
    assert any(noticed(seed) for seed in range(2, 12))


def noticed(seed: int) -> bool:
    """Whether a run finds a row missing or doubled."""
    try:
        soak.once(seed)
    except AssertionError:
        return True
    return False


def test_a_position_moves_over_silence_without_a_commit_for_every_window(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    with faulty.serving(faulty.Jaeger(spans(2))) as url:
        ingest(lake, "jaeger", url, until=END, window=60)
        quiet = datetime(2025, 3, 11, 20, tzinfo=UTC)
        before = lake.version("raw_spans")
        assert ingest(lake, "jaeger", url, until=quiet, window=60).rows == 0
        assert lake.version("raw_spans") == before + 1
    held = lake.scan("raw_spans").select(pl.len()).collect().item()
    assert held == 4
