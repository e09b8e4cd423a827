"""What each kind of telemetry says against a service, on small made-up traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import polars as pl

from rca import verdict
from rca.facts import Facts
from rca.kind import kind
from rca.related import related
from rca.suspects import alone, failures, latency, logs, network, words

AT = datetime(2026, 3, 4, 12, tzinfo=UTC)
MS = 1_000_000


class Doing(NamedTuple):
    """A span of a request: from and until when, in ms after the request's start."""

    service: str
    operation: str
    start: float
    end: float
    parent: int | None = 0
    error: bool = False


def played(request: Callable[[int, bool], Sequence[Doing]], count: int = 60) -> pl.DataFrame:
    """Spans of so many healthy requests and as many bad ones; callers have none for their calls."""
    rows = [
        (f"{bad}-{number}", place, bad, (2 * number + bad) * 10_000.0, *one)
        for bad in (False, True)
        for number in range(count)
        for place, one in enumerate(request(number, bad))
    ]
    names = ["trace_id", "place", "bad", "began", *Doing._fields]
    told = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    start = ((pl.col("began") + pl.col("start")) * MS).cast(pl.Int64)
    none = pl.lit(None, pl.String)
    spans = told.select(
        "trace_id",
        "service",
        "operation",
        "error",
        "bad",
        span_id=pl.format("{}/{}", "trace_id", "place"),
        parent_span_id=pl.format("{}/{}", "trace_id", "parent"),
        kind=pl.lit("server"),
        start_ns=start,
        duration_ns=((pl.col("end") - pl.col("start")) * MS).cast(pl.Int64),
        pod=pl.concat_str("service", pl.lit("-0")),
        cluster=none,
        host=none,
        peer=none,
        store=none,
        start=pl.lit(AT) + pl.duration(nanoseconds=start),
    )
    return related(spans)


def blamed(spans: pl.DataFrame) -> dict[tuple[str, str], float]:
    """(service, modality) → score, of the way between services and their own time."""
    bare = network.bare(spans)
    found = pl.concat([network.score(spans, bare), latency.score(network.relieved(spans, bare))])
    return {(service, name): score for service, name, _, score, *_ in found.rows()}


def test_a_caller_without_spans_for_its_calls_is_not_blamed_for_the_way() -> None:
    def request(number: int, bad: bool) -> list[Doing]:
        way, work = (30.0 if bad else 0.5), 1 + number % 5 / 10
        first = work + way, work + way + 4
        then = first[1] + way + 0.5, first[1] + way + 4.5
        return [
            Doing("front", "get", 0, then[1] + 0.5 + work, None),
            Doing("first", "look", *first),
            Doing("then", "keep", *then),
        ]

    told = blamed(played(request))
    assert told["first", "network"] > 10
    assert ("front", "latency") not in told
    assert told["first", "network"] > 3 * told.get(("then", "network"), 0.0)


def test_what_a_caller_does_slowly_is_not_blamed_on_whom_it_calls() -> None:
    def request(number: int, bad: bool) -> list[Doing]:
        work = (40.0 if bad else 2.0) + number % 5 / 10
        asks = [Doing("back", "look", work + 0.5, work + 4.5)] if number % 3 else []
        end = (asks[0].end + 0.5 if asks else work) + work
        return [Doing("front", "get", 0, end, None), *asks]

    told = blamed(played(request))
    assert told["front", "latency"] > 4
    assert ("back", "network") not in told
    assert ("back", "loss") not in told


def test_the_time_before_another_try_is_not_on_the_way() -> None:
    def request(_: int, bad: bool) -> list[Doing]:
        again = [Doing("back", "look", 60, 64)] if bad else []
        end = again[0].end if bad else 6.0
        return [
            Doing("front", "get", 0, end + 2, None),
            Doing("back", "look", 2, 6, error=bad),
            *again,
        ]

    assert not {name for name in blamed(played(request)) if name[0] == "back"}


def test_what_is_lost_on_both_ways_is_not_blamed_on_whom_it_calls() -> None:
    def request(number: int, bad: bool) -> list[Doing]:
        way, work = (30.0 if bad else 0.5), 1 + number % 5 / 10
        deep = [Doing("deep", "look", work + 2 * way, work + 2 * way + 4, 1)] if number % 3 else []
        mid = Doing("mid", "keep", work + way, (deep[0].end + way if deep else work + way) + work)
        return [Doing("front", "get", 0, mid.end + way + work, None), mid, *deep]

    told = blamed(played(request))
    assert told["mid", "network"] > 1.5 * told["deep", "network"]


def test_who_gives_up_waiting_does_not_fail_by_itself() -> None:
    def request(_: int, bad: bool) -> list[Doing]:
        end = 100.0 if bad else 9.0
        slow = 150.0 if bad else 8.0
        return [Doing("front", "get", 0, end, None, error=bad), Doing("back", "look", 1, slow)]

    spans = played(request)
    assert not failures.origins(spans).height
    handed = spans.with_columns(outlived=pl.lit(value=True))  # so it is in healthy time too
    assert set(failures.origins(handed)["service"]) == {"front"}


def lines(spans: pl.DataFrame, template: str, severity: str = "INFO") -> pl.DataFrame:
    """A line of each span."""
    return spans.select(
        "trace_id",
        "service",
        "pod",
        "bad",
        "entry",
        ts="start",
        severity=pl.lit(severity),
        template_id=pl.lit(template),
        template=pl.lit(template),
    )


def test_a_service_that_is_asked_for_less_is_not_silent() -> None:
    def request(number: int, bad: bool) -> list[Doing]:
        stops = bad and number % 2 == 0
        more = [] if stops else [Doing("stock", "reserve", 20, 24, 1)]
        return [
            Doing("gate", "enter", 0, 40, None),
            Doing("shop", "order", 1, 39),
            Doing("stock", "look", 5, 9, 1),
            *more,
        ]

    spans = played(request)
    operation = pl.col("operation")
    of_shop = spans.filter(operation == "order")
    ends = of_shop.filter(
        pl.col("trace_id").is_in(spans.filter(operation == "reserve")["trace_id"].implode())
    )
    told = pl.concat(
        [
            lines(spans.filter(operation == "reserve"), "reserved"),
            lines(spans.filter(operation == "look"), "looked"),
            lines(ends, "ordered"),
        ]
    )
    found = logs.score(told, spans)
    assert found["service"].to_list() == ["shop"]


def test_a_line_that_each_request_writes_less_often_tells_even_where_healthy_requests_failed() -> (
    None
):
    def request(number: int, bad: bool) -> list[Doing]:
        return [Doing("shop", "order", 0, 40, None, error=not bad and number % 3 > 0)]

    spans = played(request)
    wrote = spans.filter(~pl.col("error"))  # all bad requests, a third of the healthy ones
    twice = pl.concat([wrote, wrote.filter(~pl.col("bad"))])
    told = pl.concat([lines(twice, "priced"), lines(wrote, "sold")])
    found = logs.score(told, spans).rows(named=True)
    assert [(one["service"], one["modality"]) for one in found] == [("shop", "logs/often")]
    assert found[0]["subject"] == "priced"
    assert (found[0]["before"], found[0]["after"]) == (2.0, 1.0)


def test_a_line_that_nobody_wrote_before_tells_though_each_entry_has_few_requests() -> None:
    def request(number: int, bad: bool) -> list[Doing]:
        return [Doing("shop", f"order {number % 4}", 0, 40, None)]

    spans = played(request, 120)
    strange = spans.filter("bad").filter(pl.int_range(pl.len()) % 12 < 2)
    told = pl.concat([lines(spans, "sold"), lines(strange, "sold for nothing")])
    found = logs.score(told, spans).row(0, named=True)
    assert (found["service"], found["subject"]) == ("shop", "sold for nothing")
    assert (found["before"], round(found["after"], 2)) == (0.0, 0.17)


def test_what_a_caller_says_of_its_callee_does_not_speak_against_it() -> None:
    def request(_: int, bad: bool) -> list[Doing]:
        return [Doing("front", "get", 0, 9, None, error=bad), Doing("back", "look", 1, 8)]

    spans = played(request)
    bad = spans.filter("bad", pl.col("service") == "front")
    assert not logs.score(lines(bad, "connection refused by back", "ERROR"), spans).height
    assert logs.score(lines(bad, "key error", "ERROR"), spans)["service"].to_list() == ["front"]


def counted(often: dict[str, tuple[int, int]], severity: str = "WARN") -> pl.DataFrame:
    """Lines of templates of a service, so often in half an hour and in two minutes after it."""
    rows = [
        (AT - timedelta(seconds=1800 * (place + 0.5) / count), False, name)
        if not late
        else (AT + timedelta(seconds=120 * (place + 0.5) / count), True, name)
        for name, both in often.items()
        for late, count in enumerate(both)
        for place in range(count)
    ]
    told = pl.DataFrame(rows, schema=["ts", "bad", "template_id"], orient="row")
    none = pl.lit(None, pl.String)
    return told.with_columns(
        service=pl.lit("shop"), severity=pl.lit(severity), pod=none, trace_id=none
    )


def seen_of(told: pl.DataFrame) -> Facts:
    empty = pl.DataFrame(schema={"bad": pl.Boolean, "ts": pl.Datetime("us", "UTC")})
    errors = empty.with_columns(service=pl.lit("a"), type=pl.lit("x")).clear()
    window = (AT, AT + timedelta(minutes=2))
    return Facts(window, ((AT - timedelta(minutes=30), AT),), empty, told, empty, errors)


def test_among_many_templates_one_rises_by_chance() -> None:
    many = {f"t{number}": (12, 1) for number in range(60)}
    assert not alone.score(seen_of(counted({**many, "one": (12, 4)}))).height
    assert alone.score(seen_of(counted({**many, "one": (12, 20)}))).height


def test_more_requests_write_more_lines() -> None:
    busy = counted({"everyday": (900, 180)}, "INFO")
    assert not alone.score(seen_of(pl.concat([busy, counted({"slow": (90, 18)})]))).height
    calm = counted({"everyday": (900, 60)}, "INFO")
    assert alone.score(seen_of(pl.concat([calm, counted({"slow": (90, 18)})]))).height


def test_the_error_tracker_names_a_fault_where_there_are_no_lines() -> None:
    said = pl.DataFrame(
        {
            "service": ["shop"] * 4,
            "bad": [True] * 4,
            "message": ["environment variable cache.hosts is not set"] * 4,
        }
    )
    none = lines(played(lambda *_: [Doing("shop", "order", 0, 9, None)]), "ordered").clear()
    assert words.fault(none, said, "shop") == "config"


def test_own_time_is_the_cpus_where_nothing_measures_it() -> None:
    parts, faults = {"latency": 0.6}, {"latency": "cpu"}
    assert kind(parts, faults, None, gauged=False) == "cpu"
    assert kind(parts, faults, None, gauged=True) == "dependency"


def test_a_second_suspect_that_is_clearly_wrong_keeps_the_first_from_being_confirmed() -> None:
    ranked = pl.DataFrame({"service": ["cart", "web", "shop"], "total": [0.8, 0.3, 0.1]})
    assert verdict.rivals(ranked) == ["web"]
    assert verdict.verdict(verdict.BESIDE) == "likely"
    assert verdict.rivals(ranked.filter(pl.col("service") != "web")) == []
