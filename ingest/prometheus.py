"""Metrics: a Prometheus server, or OpenMetrics text.

A server is read through remote-read (raw samples at their own times, stale markers included),
one window of time after the other; where it stopped is the app transaction of `raw_samples`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException

from ingest import files, openmetrics, remote_read
from ingest.batch import Batch, Piece, Request, content_id
from lake import Lake, UserError

WINDOW = timedelta(hours=2)
TIMEOUT = 60  # seconds


def pieces(request: Request, lake: Lake) -> Iterator[Piece]:
    """One piece per file, or per window of a server's time."""
    if re.match(r"https?://", request.target):
        yield from _windows(request, lake)
        return
    for path, content in files.contents(request.target, ".om", ".prom", ".txt", ".openmetrics"):
        text = files.text(path, content)
        work = partial(openmetrics.decode, text, request.place, str(path))
        yield Piece("raw_samples", "prometheus", content_id(content), 1, work, str(path))


def _windows(request: Request, lake: Lake) -> Iterator[Piece]:
    url = request.target.rstrip("/")
    about = _connect(url)
    stream = url.split("://", 1)[1]
    start, end = _bounds(request, lake, url, stream)
    backfill = "" if request.since is None else f"/{_micros(start)}-{_micros(end)}"
    while start < end:
        stop = min(start + WINDOW, end)
        work = partial(_pull, url, start, stop, about, request)
        yield Piece("raw_samples", "prometheus", stream + backfill, _micros(stop), work, url)
        start = stop


def _connect(url: str) -> dict[str, dict[str, str]]:
    """What the server knows of its metrics; UserError where there is no Prometheus."""
    try:
        server = PrometheusConnect(url=url, disable_ssl=False)
        if not server.check_prometheus_connection(params={"timeout": f"{TIMEOUT}s"}):
            raise UserError(f"{url} answers, but not as a Prometheus server does.")
        found = server._session.get(f"{url}/api/v1/metadata", timeout=TIMEOUT)  # noqa: SLF001
        entries = found.json().get("data", {})
    except (requests.RequestException, PrometheusApiClientException, ValueError) as error:
        raise UserError(f"no Prometheus server answers at {url}: {_why(error)}") from error
    return {
        key.upper(): {name: rows[0].get(key, "") for name, rows in entries.items() if rows}
        for key in ("type", "unit", "help")
    }


def _bounds(request: Request, lake: Lake, url: str, stream: str) -> tuple[datetime, datetime]:
    """From where the last pull stopped (or the server begins) until now, unless told otherwise."""
    end = request.until or datetime.now(UTC)
    if request.since:
        return request.since, end
    app = f"prometheus/{stream}"
    cursor = lake.transactions("raw_samples", [app])[app] if lake.exists() else -1
    if cursor >= 0:
        return datetime.fromtimestamp(cursor / 1e6, UTC), end
    return _oldest(url), end


def _oldest(url: str) -> datetime:
    """The oldest sample the server holds, as it says of itself on /metrics."""
    name = "prometheus_tsdb_lowest_timestamp_seconds"
    try:
        text = requests.get(f"{url}/metrics", timeout=TIMEOUT).text
    except requests.RequestException as error:
        raise UserError(f"{url}/metrics does not answer: {_why(error)}") from error
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    if not found or float(found[1]) <= 0:
        raise UserError(f"{url} does not say how old its samples are; give --since.")
    return datetime.fromtimestamp(float(found[1]), UTC)


def _pull(
    url: str, start: datetime, stop: datetime, about: dict[str, dict[str, str]], request: Request
) -> Batch:
    """All samples with start ≤ time < stop."""
    return remote_read.pull(
        url, _micros(start) // 1000, _micros(stop) // 1000, about, request.place
    )


def _micros(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _why(error: Exception) -> str:
    """The last clause of a library's message, which is the one that tells."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    found = re.search(r"\[Errno \d+\] ([^'\")]+)", text)
    return f"{found[1].lower()}." if found else f"{text[:160]}."
