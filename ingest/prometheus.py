"""Metrics: a Prometheus server, or OpenMetrics text.

A server is read through remote-read (raw samples at their own times, stale markers included);
one without it (Thanos, Mimir, VictoriaMetrics) by range selectors of the query API. One question
at a time; a slow answer makes the next question smaller and waits as long as it took.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import Literal

import polars as pl
import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from pydantic import Field
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ingest import files, native_histograms, openmetrics, query_range, remote_read
from ingest.batch import Batch, Piece, content_id
from ingest.selectors import matchers
from ingest.series import Catalog
from ingest.source import Source
from ingest.web import Overloaded, Refused, Web, WebOptions, _why, is_url, server_of
from ingest.window import Step, Stream, Stretch, Window, micros
from lake import UserError

SLOW = 20.0  # seconds: a reply that took longer makes the next question smaller
_FIRST = timedelta(days=15)  # how far back a server is read that does not say how old it is
_EVERYTHING = '{__name__=~".+"}'


class PrometheusOptions(WebOptions):
    """Options of `prometheus`; all but the first group concern a server."""

    selectors: tuple[str, ...] = Field((_EVERYTHING,), description="PromQL selectors to pull")
    window: float = Field(7200.0, gt=0, description="seconds of one question, to begin with")
    overlap: float = Field(120.0, ge=0, description="seconds read again for late samples")
    api: Literal["auto", "remote-read", "range"] = Field("auto", description="how it is read")
    exemplars: bool = Field(True, description="pull exemplars too")
    max_series: int = Field(
        0, ge=0, description="series of one metric, at most (0: all); what is left out is counted"
    )


class Prometheus(Source):
    """Files, one piece each; or a server, window by window."""

    name = "prometheus"
    about = "metrics: a server's URL, or OpenMetrics text"
    options = PrometheusOptions
    selects = ("selectors",)

    @property
    def server(self) -> str | None:
        """The server asked."""
        return server_of(self.given)

    def read(self, window: Window) -> Iterator[Piece]:
        """Pieces of `raw_samples`; a server's native histograms go with them."""
        if is_url(self.given.target):
            yield from Server(self.given).pieces(window, self.selection)
            return
        suffixes = (".om", ".prom", ".txt", ".openmetrics")
        for path, content in files.contents(self.given.target, *suffixes):
            text = files.text(path, content)
            work = partial(openmetrics.decode, text, self.given.place, str(path))
            yield Piece("raw_samples", "prometheus", content_id(content), 1, work, str(path))

    def check(self) -> str:
        """What a server knows of its metrics, or the first file."""
        if is_url(self.given.target):
            return Server(self.given).check()
        return super().check()


class Server:
    """A server that speaks Prometheus' API."""

    def __init__(self, given: PrometheusOptions) -> None:
        self.given = given
        self.web = Web(given)
        size = timedelta(seconds=given.window)
        self.step = Step(size, most=size * 12)
        self.remote = given.api != "range"
        for selector in given.selectors:
            matchers(selector)

    def check(self) -> str:
        """How it is read, and how many metrics it knows."""
        about = self.catalog.about["TYPE"]
        how = "remote-read" if self._has_remote_read() else "range queries"
        return f"{len(about)} metrics, read by {how}"

    def pieces(self, window: Window, selection: str) -> Iterator[Piece]:
        """One piece per stretch of time."""
        self.catalog  # noqa: B018 - an unreachable server is found out here
        if self.given.api == "auto":
            self.remote = self._has_remote_read()
        if not self.remote:
            self.step.size = min(self.step.size, timedelta(minutes=15))
        host = self.web.host
        name = f"{host}/{selection}" if selection else host
        yield from window.pieces(
            Stream("raw_samples", "prometheus", name, self.web.url, host),
            self._pulled,
            step=self.step,
            overlap=timedelta(seconds=self.given.overlap),
            clock=self.web.clock,
            oldest=lambda: self._oldest(window),
        )

    @cached_property
    def catalog(self) -> Catalog:
        """What the server knows of its metrics; UserError where there is no Prometheus."""
        if not self._connected():
            raise UserError(f"{self.web.url} answers, but not as a Prometheus server does.")
        try:
            entries = self.web.json("/api/v1/metadata").get("data") or {}
        except Refused:
            entries = {}
        about = {
            key.upper(): {name: rows[0].get(key, "") for name, rows in entries.items() if rows}
            for key in ("type", "unit", "help")
        }
        return Catalog(about)

    def _connected(self) -> bool:
        """Whether a Prometheus answers; tried again unless nobody is there at all."""
        for attempt in range(1, self.given.attempts + 1):
            try:
                server = PrometheusConnect(
                    url=self.web.base,
                    session=self.web.session,
                    timeout=int(self.given.timeout) or 1,
                    retry=Retry(0, status_forcelist=[429, 500, 502, 503, 504]),
                )
                return bool(server.check_prometheus_connection())
            except (requests.RequestException, PrometheusApiClientException, ValueError) as error:
                why = _why(error)
                if attempt == self.given.attempts or "refused" in why or "name" in why:
                    raise UserError(
                        f"no Prometheus server answers at {self.web.url}: {why}."
                    ) from error
                time.sleep(self.given.backoff)
            finally:  # the library leaves its retries in the session; `Web` has its own
                self.web.session.mount(self.web.base, HTTPAdapter())
        return False

    def _has_remote_read(self) -> bool:
        """Whether remote-read answers a question about nothing."""
        if self.given.api != "auto":
            return self.given.api == "remote-read"
        try:
            remote_read.pull(self.web, ['{__name__="up"}'], 0, 1)
        except Refused:
            return False
        return True

    def _oldest(self, window: Window) -> datetime:
        """The oldest sample the server holds, as it says of itself on /metrics."""
        name = "prometheus_tsdb_lowest_timestamp_seconds "
        try:
            text = self.web.ask("GET", "/metrics", lambda reply: reply.text)
        except UserError:
            return window.high - _FIRST
        found = next((line for line in text.splitlines() if line.startswith(name)), "")
        seconds = float(found.removeprefix(name) or 0)
        if seconds <= 0:
            return window.high - _FIRST
        return datetime.fromtimestamp(seconds, window.now.tzinfo)

    def _pulled(self, stretch: Stretch) -> Batch:
        """All samples with low ≤ time < high; in halves where the server cannot serve it whole."""
        began = time.monotonic()
        try:
            reply = self._asked(stretch)
        except Overloaded:
            if stretch.length <= timedelta(seconds=1):
                raise
            parts = [self._pulled(half) for half in stretch.halves()]
            self.step.trouble = True
            return _joined(parts)
        took = time.monotonic() - began
        if took > SLOW:
            self.step.trouble = True
            time.sleep(min(took, 30.0))
        self.step.settle(len(reply.samples.times) // 8)
        kept, left_out = self._capped(reply.samples)
        batch = remote_read.batch(kept, self.catalog, self.given.place)
        native, refused, more = self._histograms(reply.histograms, stretch)
        series = [one for one in (batch.series, more) if one is not None]
        return dataclasses.replace(
            batch,
            records=batch.records + refused.height,
            rejected=refused,
            series=pl.concat(series),
            histograms=native,
            exemplars=self._exemplars(stretch),
            left_out=left_out,
        )

    def _asked(self, stretch: Stretch) -> remote_read.Reply:
        low, high = micros(stretch.low) // 1000, micros(stretch.high) // 1000
        ask = remote_read.pull if self.remote else query_range.pull
        return ask(self.web, self.given.selectors, low, high)

    def _capped(self, found: remote_read.Samples) -> tuple[remote_read.Samples, dict[str, int]]:
        """The series within the cap; how many samples of each metric were left out."""
        most = self.given.max_series
        if not most:
            return found, {}
        kept, left_out, seen = list[remote_read.Series](), dict[str, int](), dict[str, int]()
        for one in sorted(found.each(), key=lambda series: series.labels):
            metric = dict(one.labels).get("__name__", "")
            seen[metric] = seen.get(metric, 0) + 1
            if seen[metric] <= most:
                kept.append(one)
            else:
                left_out[metric] = left_out.get(metric, 0) + len(one.times)
        return remote_read.Samples.of(kept), left_out

    def _histograms(
        self, chunks: list[native_histograms.HistogramChunk], stretch: Stretch
    ) -> tuple[pl.DataFrame | None, pl.DataFrame, pl.DataFrame | None]:
        """Native histograms' rows, what could not be read of them, and their `series`."""
        if not chunks:
            return None, Batch(pl.DataFrame(), 0).rejected, None
        low, high = micros(stretch.low) // 1000, micros(stretch.high) // 1000
        place = self.given.place
        rows, refused = native_histograms.rows(chunks, low, high, self.catalog, place)
        seen = rows.group_by("series", maintain_order=True).agg(
            first_seen=pl.col("ts").min(), last_seen=pl.col("ts").max()
        )
        known = self.catalog.frame(list({chunk.labels: None for chunk in chunks}), place)
        columns = ("metric", "series", "labels", "type", "unit", "help")
        return rows, refused, known.select(*columns).join(seen, on="series")

    def _exemplars(self, stretch: Stretch) -> pl.DataFrame | None:
        if not self.given.exemplars:
            return None
        try:
            return query_range.exemplars(
                self.web, self.given.selectors, stretch, self.catalog, self.given.place
            )
        except Refused as error:
            if error.status in (401, 403):
                raise
            self.given = self.given.model_copy(update={"exemplars": False})
            return None  # a server that has none
        except Overloaded as error:
            raise Overloaded(f"{error} `exemplars = false` pulls the samples alone.") from error


def _joined(parts: list[Batch]) -> Batch:
    """Several replies as one batch."""
    shown = [part.exemplars for part in parts if part.exemplars is not None]
    native = [part.histograms for part in parts if part.histograms is not None]
    left_out: dict[str, int] = {}
    for part in parts:
        for metric, count in part.left_out.items():
            left_out[metric] = left_out.get(metric, 0) + count
    return Batch(
        pl.concat([part.rows for part in parts]),
        sum(part.records for part in parts),
        pl.concat([part.rejected for part in parts]),
        histograms=pl.concat(native) if native else None,
        series=pl.concat([part.series for part in parts if part.series is not None]),
        exemplars=pl.concat(shown) if shown else None,
        left_out=left_out,
    )
