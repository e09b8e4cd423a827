"""Prometheus' query API, for servers without remote-read: range selectors give raw samples.

A range selector holds both its edges before Prometheus 3 and only the later one since, so a
stretch is asked for a millisecond wider and cut here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import polars as pl
import requests

from ingest.batch import Place
from ingest.remote_read import Reply, Samples, Series
from ingest.series import Catalog
from ingest.web import Damaged, Overloaded, Refused, Web
from ingest.window import Stretch
from lake import UserError


class _Series(msgspec.Struct):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    histograms: list[Any] = []


class _Data(msgspec.Struct, rename={"kind": "resultType"}):
    result: list[_Series]
    kind: str = "matrix"


class _Reply(msgspec.Struct):
    data: _Data


class _Exemplar(msgspec.Struct):
    labels: dict[str, str]
    value: str
    timestamp: float


class _Exemplars(msgspec.Struct, rename="camel"):
    series_labels: dict[str, str]
    exemplars: list[_Exemplar]


class _ExemplarReply(msgspec.Struct):
    data: list[_Exemplars] | None = None


def pull(web: Web, selectors: Sequence[str], start: int, stop: int) -> Reply:
    """Samples with start ≤ time < stop (ms) of all selectors, each series once."""
    found: dict[tuple[tuple[str, str], ...], Series] = {}
    for selector in selectors:
        asked = {
            "query": f"{selector}[{stop - start}ms]",
            "time": f"{(stop - 1) / 1000:.3f}",
        }
        try:
            reply = web.ask("POST", "/api/v1/query", _decoded, data=asked)
        except Refused as error:
            if error.status == 422:  # more samples than the server loads for one question
                raise Overloaded(str(error)) from error
            raise
        for one in reply:
            if one.histograms:
                raise UserError(
                    f"{web.url}: {one.metric.get('__name__')} is a native histogram; these are"
                    " pulled by remote-read only, which this server does not offer. Leave the"
                    " metric out by `selectors`."
                )
            labels = tuple(sorted(one.metric.items()))
            found.setdefault(labels, _series(labels, one.values, start, stop))
    return Reply(Samples.of(list(found.values())), [])


def _series(
    labels: tuple[tuple[str, str], ...],
    values: Sequence[tuple[float, str]],
    start: int,
    stop: int,
) -> Series:
    times = np.round(np.array([at for at, _ in values], np.float64) * 1000).astype(np.int64)
    numbers = np.array([text for _, text in values], "U32").astype(np.float64)
    inside = (times >= start) & (times < stop)
    return Series(labels, times[inside], numbers[inside])


def _decoded(reply: requests.Response) -> list[_Series]:
    try:
        found = msgspec.json.decode(reply.content, type=_Reply)
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error
    return found.data.result


def exemplars(
    web: Web, selectors: Sequence[str], stretch: Stretch, catalog: Catalog, place: Place
) -> pl.DataFrame | None:
    """Exemplars of a stretch as rows of `exemplars` without their day; None where there is none."""
    rows = []
    for selector in selectors:
        asked = {
            "query": selector,
            "start": f"{stretch.low.timestamp():.3f}",
            "end": f"{stretch.high.timestamp():.3f}",
        }
        reply = web.ask("GET", "/api/v1/query_exemplars", _exemplars, params=asked, attempts=2)
        for group in reply:
            about = catalog.row(tuple(sorted(group.series_labels.items())), place)
            own = {name: about[name] for name in ("metric", "series", *Place.__dataclass_fields__)}
            rows += [{**own, **_exemplar(one)} for one in group.exemplars]
    if not rows:
        return None
    texts = ("metric", "trace_id", "span_id", "cluster", "namespace", "environment")
    schema = {"ts": pl.Int64, "series": pl.Int64, "value": pl.Float64}
    frame = pl.DataFrame(rows, schema={**schema, **dict.fromkeys(texts, pl.String)})
    return frame.with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))


def _exemplar(one: _Exemplar) -> dict[str, Any]:
    labels = one.labels
    return {
        "ts": round(one.timestamp * 1e6),
        "value": float(one.value),
        "trace_id": labels.get("trace_id") or labels.get("traceID"),
        "span_id": labels.get("span_id") or labels.get("spanID"),
    }


def _exemplars(reply: requests.Response) -> list[_Exemplars]:
    try:
        return msgspec.json.decode(reply.content, type=_ExemplarReply).data or []
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error
