"""Where a pull goes on: clocks that were ahead, windows asked for again, files still written to."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest import k8s_objects
from ingest.batch import Place
from ingest.log_lines import whole_lines
from ingest.run import ingest, pull
from ingest.source import made
from lake import Lake, UserError

from . import faulty

START = datetime(2025, 3, 11, 14, tzinfo=UTC)
MICROS = int(START.timestamp()) * 1_000_000
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def spans(count: int, every: int = 60) -> list[dict[str, Any]]:
    """A span a minute, each visible when it begins."""
    return [
        {
            "traceID": f"{place:032x}",
            "spanID": f"{place:016x}",
            "service": "cart",
            "startTime": MICROS + place * every * 1_000_000,
            "visible": MICROS + place * every * 1_000_000,
        }
        for place in range(count)
    ]


def pulled(lake: Lake, url: str, server: Any, now: datetime, ahead: timedelta = SECOND * 0) -> int:
    """A pull at a moment, by a clock that may be ahead; how many rows came."""
    server.clock = int(now.timestamp() * 1_000_000)
    return pull(lake, made("jaeger", {"target": url}), now=now + ahead).rows


@pytest.mark.parametrize("told", [True, False], ids=["the server tells the time", "it does not"])
def test_a_clock_that_was_ahead_loses_nothing(told: bool, tmp_path: Path) -> None:
    lake, server = Lake(tmp_path / "lake"), faulty.Jaeger(spans(120))
    with faulty.serving(server if told else server.__call__) as url:
        assert pulled(lake, url, server, START + 10 * MINUTE + SECOND) == 11
        assert pulled(lake, url, server, START + 20 * MINUTE + SECOND, timedelta(hours=1)) == 10
        assert pulled(lake, url, server, START + 30 * MINUTE + SECOND) == 10
        assert pulled(lake, url, server, START + 40 * MINUTE + SECOND) == 10
        assert pulled(lake, url, server, START + 90 * MINUTE + SECOND) == 50
        assert pulled(lake, url, server, START + 100 * MINUTE + SECOND) == 10
    assert lake.read("raw_spans")["span_id"].n_unique() == 101


def test_a_clock_ahead_of_the_servers_moves_no_position_beyond_it(tmp_path: Path) -> None:
    lake, server = Lake(tmp_path / "lake"), faulty.Jaeger(spans(120))
    with faulty.serving(server) as url:
        pulled(lake, url, server, START + 10 * MINUTE, timedelta(hours=1))
        assert pulled(lake, url, server, START + 75 * MINUTE) > 0
    assert lake.read("raw_spans")["span_id"].n_unique() == 75


def test_a_window_until_the_future_does_not_move_the_position_there(tmp_path: Path) -> None:
    recent = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1e6)
    some = [{**one, "startTime": recent} for one in spans(3)]
    lake = Lake(tmp_path / "lake")
    with faulty.serving(faulty.Jaeger(some)) as url:
        future = datetime(2099, 1, 1, tzinfo=UTC)
        assert ingest(lake, "jaeger", url, until=future, reach=1, window=1e8).rows == 3
    app = f"jaeger/{url.removeprefix('http://')}"
    position = lake.transactions("raw_spans", [app])[app]
    assert 0 < position <= datetime.now(UTC).timestamp() * 1e6


def test_a_window_asked_for_again_brings_what_came_late(tmp_path: Path) -> None:
    lake, server = Lake(tmp_path / "lake"), faulty.Jaeger(spans(10))
    late = server.spans[4]
    with faulty.serving(server) as url:
        window = {"since": START, "until": START + 10 * MINUTE}
        late["visible"] = 1 << 62
        server.clock = 1 << 61
        assert ingest(lake, "jaeger", url, **window).rows == 9
        server.clock = 1 << 62
        assert [ingest(lake, "jaeger", url, **window).rows for _ in range(2)] == [1, 0]


def test_selections_of_one_server_have_positions_of_their_own(tmp_path: Path) -> None:
    some = [{**one, "service": ("cart", "web")[place % 2]} for place, one in enumerate(spans(10))]
    lake = Lake(tmp_path / "lake")
    with faulty.serving(faulty.Jaeger(some)) as url:
        until = START + 20 * MINUTE
        assert ingest(lake, "jaeger", url, until=until, services=["cart"]).rows == 5
        assert ingest(lake, "jaeger", url, until=until).rows == 5
        assert ingest(lake, "jaeger", url, until=until, services=["web"]).rows == 0


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_a_server_that_gives_less_than_asked_for_is_found_out(version: str, tmp_path: Path) -> None:
    server = faulty.Jaeger(spans(300, 1), version, cap=20)
    with faulty.serving(server) as url:
        landed = ingest(
            Lake(tmp_path / "lake"), "jaeger", url, since=START, until=START + 10 * MINUTE
        )
    assert landed.rows == 300


def test_a_server_without_traces_in_a_window_is_no_error(tmp_path: Path) -> None:
    with faulty.serving(faulty.Jaeger(spans(1), "v3")) as url:
        lake = Lake(tmp_path / "lake")
        assert ingest(lake, "jaeger", url, since=START, until=START + 9 * MINUTE, window=60).rows


def event(reason: str, **changes: Any) -> dict[str, Any]:
    base = {
        "kind": "Event",
        "reason": reason,
        "lastTimestamp": "2025-03-11T14:00:00Z",
        "involvedObject": {"kind": "Pod", "name": "cart-7d9f8b6c5-abcde", "namespace": "shop"},
    }
    return {**base, **changes}


def objects(folder: Path, *items: Any, kind: str = "List") -> Path:
    file = folder / "objects.json"
    file.write_text(json.dumps({"kind": kind, "items": items}))
    return file


def test_events_of_one_second_and_of_two_clusters_all_stay(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    file = objects(tmp_path, *(event(one) for one in ("Pulled", "Created", "Started")))
    assert ingest(lake, "k8s", file, cluster="eu-1").rows == 3
    ingest(lake, "k8s", file, cluster="us-1")
    assert lake.read("changes").height == 6
    ingest(lake, "k8s", objects(tmp_path, event("Pulled"), event("Killing")), cluster="eu-1")
    assert lake.read("changes").height == 7


def test_revisions_within_a_list_of_kubectl_are_read_and_odd_objects_refused(
    tmp_path: Path,
) -> None:
    def revision(number: int, kind: str) -> dict[str, Any]:
        spec = {"template": {"spec": {"containers": [{"image": f"db:{number}"}]}}}
        meta = {
            "name": f"db-{number}",
            "namespace": "shop",
            "creationTimestamp": f"2025-03-11T14:0{number}:00Z",
            "ownerReferences": [{"kind": "StatefulSet", "name": "db"}],
        }
        if kind == "ReplicaSet":
            notes = {"deployment.kubernetes.io/revision": str(number)}
            return {"kind": kind, "metadata": {**meta, "annotations": notes}, "spec": spec}
        return {"kind": kind, "metadata": meta, "revision": number, "data": {"spec": spec}}

    for kind in ("ReplicaSet", "ControllerRevision"):
        items = [revision(2, kind), revision(1, kind), {"kind": kind, "metadata": 7}]
        content = json.dumps({"kind": "List", "items": items}).encode()
        batch = k8s_objects.decode(content, Place(), "x")
        assert batch.rows.select("kind", "ref", "before", "after").rows() == [
            ("deploy", "db@2", "db:1", "db:2")
        ]
        assert batch.rejected.height == 1


# -- files ----------------------------------------------------------------------------------------


def line(number: int) -> bytes:
    return b'{"ts": "2025-03-11T14:05:%02dZ", "a": {"b": %d}}\n' % (number, number)


@pytest.mark.parametrize("cut", range(1, len(line(1)) - 1))
def test_an_unfinished_line_waits_wherever_it_is_cut(cut: int) -> None:
    assert whole_lines(line(0) + line(1)[:cut]) == len(line(0))
    assert whole_lines(line(1)[:cut]) == 0


def test_a_first_line_that_was_unfinished_is_not_read_twice(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    lake, file = Lake(tmp_path / "lake"), folder / "app.jsonl"
    file.write_bytes(line(1)[:20])
    assert ingest(lake, "logs", folder).rows == 0
    file.write_bytes(line(1) + line(2))
    assert ingest(lake, "logs", folder).rows == 2
    (folder / "app.jsonl.gz").write_bytes(gzip.compress(line(1) + line(2)))
    file.write_bytes(line(3))
    assert ingest(lake, "logs", folder).rows == 1
    assert not lake.read("quarantine").height


def test_a_byte_that_is_no_text_is_kept_visible_and_stops_nothing(tmp_path: Path) -> None:
    pod = tmp_path / "pods/shop_cart-7d9h7cz59-94dkv_u-1/app/0.log"
    pod.parent.mkdir(parents=True)
    pod.write_bytes(b"2025-03-11T14:05:00Z stdout F one \xff two\n")
    lake = Lake(tmp_path / "lake")
    assert ingest(lake, "logs", tmp_path / "pods").rows == 1
    assert lake.read("raw_logs")["body"].to_list() == ["one \\xff two"]


def test_a_damaged_file_stops_no_other_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.log.gz").write_bytes(gzip.compress(line(1))[:-9])
    (tmp_path / "b.log").write_bytes(line(2))
    lake = Lake(tmp_path / "lake")
    with pytest.raises(UserError, match=r"a\.log\.gz is a damaged or cut gzip file.*were read"):
        ingest(lake, "logs", tmp_path)
    assert lake.read("raw_logs").height == 1


def test_a_container_may_change_its_form_within_a_file(tmp_path: Path) -> None:
    pod = tmp_path / "pods/shop_cart-7d9h7cz59-94dkv_u-1/app/0.log"
    pod.parent.mkdir(parents=True)
    docker = json.dumps({"log": "two\n", "stream": "stdout", "time": "2025-03-11T14:05:01Z"})
    pod.write_text(f"rubbish\n2025-03-11T14:05:00Z stdout F one\n{docker}\n")
    lake = Lake(tmp_path / "lake")
    landed = ingest(lake, "logs", tmp_path / "pods")
    assert (landed.rows, landed.quarantined) == (2, 1)
    assert lake.read("raw_logs").sort("ts")["body"].to_list() == ["one", "two"]


def test_the_files_of_a_folder_land_in_one_commit(tmp_path: Path) -> None:
    folder, lake = tmp_path / "logs", Lake(tmp_path / "lake").create()
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.jsonl").write_bytes(line(number))
    before = lake.version("raw_logs")
    assert ingest(lake, "logs", folder).rows == 5
    assert lake.version("raw_logs") == before + 1
    assert ingest(lake, "logs", folder).rows == 0


def test_files_of_one_pull_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    folder, lake = tmp_path / "logs", Lake(tmp_path / "lake")
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(line(0) + line(1))
    (folder / "b.jsonl").write_bytes(line(0) + line(1))  # a copy
    (folder / "c.jsonl").write_bytes(line(0) + line(3))  # another, that begins alike
    assert ingest(lake, "logs", folder).rows == 4
    assert ingest(lake, "logs", folder).rows == 0


def test_a_log_without_a_line_to_keep_is_gone_on_with(tmp_path: Path) -> None:
    folder, lake = tmp_path / "logs", Lake(tmp_path / "lake")
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"\n\n")
    (folder / "b.jsonl").write_bytes(b"\n\n" + line(1))
    assert ingest(lake, "logs", folder).rows == 1
    assert ingest(lake, "logs", folder).rows == 0
