"""HTTP servers written against the vendors' published schemas, that fail as real ones do.

Each holds records with the moment they became visible, so that a test can let time pass. Faults
are drawn from a seed: errors 429, 500, 503, a connection closed before or within the answer, a
body cut short with a length that hides it, and an answer that takes too long.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Params = dict[str, str]
Answer = tuple[int, dict[str, str], bytes]
Route = Callable[[str, Params], Answer]
FAULTS = ("429", "500", "503", "close", "cut", "short", "slow")
SLOW = 1.0  # seconds, longer than the tests' time-out


class Faults:
    """Which requests fail, and how; the same for the same seed."""

    def __init__(self, seed: int = 0, share: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.lock = threading.Lock()
        self.seen: dict[str, int] = {}

    def draw(self) -> str | None:
        """The next request's fault."""
        with self.lock:
            if self.random.random() >= self.share:
                return None
            kind = self.random.choice(FAULTS)
            self.seen[kind] = self.seen.get(kind, 0) + 1
            return kind


@contextmanager
def serving(route: Route, faults: Faults | None = None) -> Iterator[str]:  # noqa: C901
    """The URL of a server that answers by a function of path and parameters."""
    trouble = faults or Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else the body waits for the answer to the head

        def do_GET(self) -> None:
            place = urlsplit(self.path)
            params = {key: value[-1] for key, value in parse_qs(place.query).items()}
            self._answer(lambda: route(place.path, params))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._answer(lambda: route(self.path, {"body": body.hex(), **self._form(body)}))

        def _form(self, body: bytes) -> Params:
            if "urlencoded" not in self.headers.get("Content-Type", ""):
                return {}
            return {key: value[-1] for key, value in parse_qs(body.decode()).items()}

        def _answer(self, work: Callable[[], Answer]) -> None:
            kind = trouble.draw()
            if kind == "close":
                self.close_connection = True
                self.connection.close()
                return
            if kind == "slow":
                time.sleep(SLOW)
            if kind in {"429", "500", "503"}:
                headers = {"Retry-After": "0"} if kind != "500" else {}
                self._send(int(kind), headers, b'{"detail": "not now"}')
                return
            status, headers, body = work()
            if kind == "cut" and len(body) > 2:  # the length is told, the rest never comes
                self._head(status, headers, len(body))
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            if kind == "short" and len(body) > 2:  # a proxy that cut the body and told so
                body = body[: len(body) // 2]
            self._send(status, headers, body)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self._head(status, headers, len(body))
            self.wfile.write(body)

        def _head(self, status: int, headers: dict[str, str], size: int) -> None:
            self.send_response(status)
            for key, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(size))
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            """The server's own clock, where it has one."""
            clock = getattr(route, "clock", 1 << 62)
            return super().date_time_string(clock / 1e6 if clock < 1 << 60 else timestamp)

        def log_message(self, *_words: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError, ValueError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(value: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON answer."""
    return status, headers, json.dumps(value).encode()


class Jaeger:
    """Jaeger's query service; a search returns the newest `limit` traces, whole, in any order.

    `version` is the API it speaks; `cap` the traces it gives at most, whatever is asked for.
    """

    def __init__(
        self, spans: Sequence[dict[str, Any]], version: str = "v1", cap: int = 1 << 30
    ) -> None:
        self.spans = spans  # traceID, spanID, service, startTime (µs), visible (µs)
        self.clock = 1 << 62
        self.version = version
        self.cap = cap
        self.random = random.Random(0)

    def __call__(self, path: str, params: Params) -> Answer:
        if path.startswith("/api/v3/") != (self.version == "v3"):
            return answer({"errors": [{"code": 404}]}, 404)
        return self.v3(path, params) if self.version == "v3" else self.v1(path, params)

    def v3(self, path: str, params: Params) -> Answer:
        """The OTLP form of the same; no traces are told by 404, as Jaeger does."""
        seen = [one for one in self.spans if one["visible"] <= self.clock]
        if path == "/api/v3/services":
            return answer({"services": sorted({one["service"] for one in seen})})
        low = _micros(params["query.start_time_min"])
        high = _micros(params["query.start_time_max"])
        service, limit = params["query.service_name"], int(params["query.search_depth"])
        names = self.hits(seen, service, low, high, limit)
        if not names:
            return answer({"error": {"httpCode": 404, "message": "No traces found"}}, 404)
        groups = [
            {
                "resource": {
                    "attributes": [
                        {"key": "service.name", "value": {"stringValue": one["service"]}}
                    ]
                },
                "scopeSpans": [{"spans": [self.otlp(one)]}],
            }
            for one in seen
            if one["traceID"] in names
        ]
        self.random.shuffle(groups)
        return answer({"result": {"resourceSpans": groups}})

    @staticmethod
    def otlp(one: dict[str, Any]) -> dict[str, Any]:
        """A span as OTLP JSON."""
        return {
            "traceId": one["traceID"],
            "spanId": one["spanID"],
            "name": "work",
            "kind": 2,
            "startTimeUnixNano": str(one["startTime"] * 1000),
            "endTimeUnixNano": str(one["startTime"] * 1000 + 10_000),
        }

    def hits(
        self, seen: Sequence[dict[str, Any]], service: str, low: int, high: int, limit: int
    ) -> list[str]:
        """The newest traces with a span of a service in a window."""
        found: dict[str, int] = {}
        for one in seen:
            if one["service"] == service and low <= one["startTime"] <= high:
                found[one["traceID"]] = max(found.get(one["traceID"], 0), one["startTime"])
        newest = sorted(found, key=lambda trace: (-found[trace], trace))
        return newest[: min(limit, self.cap)]

    def v1(self, path: str, params: Params) -> Answer:
        """The form that the UI reads."""
        seen = [one for one in self.spans if one["visible"] <= self.clock]
        if path == "/api/services":
            return answer({"data": sorted({one["service"] for one in seen}), "total": 1})
        if path != "/api/traces":
            return answer({"errors": [{"code": 404}]}, 404)
        low, high = int(params["start"]), int(params["end"])
        newest = self.hits(seen, params["service"], low, high, int(params["limit"]))
        self.random.shuffle(newest)
        return answer({"data": [self.trace(name, seen) for name in newest], "errors": None})

    @staticmethod
    def trace(name: str, spans: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A trace as the API gives it."""
        mine = [one for one in spans if one["traceID"] == name]
        services = sorted({one["service"] for one in mine})
        processes = {
            f"p{place}": {"serviceName": service, "tags": []}
            for place, service in enumerate(services, 1)
        }
        return {
            "traceID": name,
            "spans": [
                {
                    "traceID": name,
                    "spanID": one["spanID"],
                    "operationName": "work",
                    "references": [],
                    "startTime": one["startTime"],
                    "duration": 10,
                    "tags": [],
                    "logs": [],
                    "processID": f"p{services.index(one['service']) + 1}",
                }
                for one in mine
            ],
            "processes": processes,
        }


class Sentry:
    """Sentry's project events: newest first, in pages with a Link header; a page may repeat events
    of the one before, because others came in between."""

    def __init__(self, events: Sequence[dict[str, Any]], page: int = 7, token: str = "") -> None:
        self.events = events  # eventID, at (µs), visible (µs)
        self.page = page
        self.token = token
        self.clock = 1 << 62
        self.repeat = 0

    def __call__(self, path: str, params: Params) -> Answer:
        if path.endswith("/projects/"):
            return answer([{"slug": "shop"}])
        if path.endswith("/issues/"):
            return answer([{"id": "1", "shortId": "SHOP-1", "firstSeen": _text(0)}])
        if not path.endswith("/events/"):
            return answer({"detail": "not found"}, 404)
        low, high = _micros(params["start"]), _micros(params["end"])
        seen = [
            one for one in self.events if one["visible"] <= self.clock and low <= one["at"] <= high
        ]
        seen.sort(key=lambda one: (-one["at"], one["eventID"]))
        offset = int(params.get("cursor", "0:0:0").split(":")[1])
        start = max(offset - self.repeat, 0)
        page = seen[start : offset + self.page]
        more = "true" if offset + self.page < len(seen) else "false"
        link = (
            f'<http://x/?cursor=0:0:1>; rel="previous"; results="false"; cursor="0:0:1", '
            f'<http://x/?cursor=0:{offset + self.page}:0>; rel="next"; results="{more}"; '
            f'cursor="0:{offset + self.page}:0"'
        )
        if self.repeat:  # pages come in any order within
            random.Random(offset).shuffle(page)
        return answer([self.event(one) for one in page], Link=link)

    @staticmethod
    def event(one: dict[str, Any]) -> dict[str, Any]:
        """An event as the API gives it."""
        return {
            "eventID": one["eventID"],
            "groupID": "1",
            "title": "boom",
            "message": "",
            "dateCreated": _text(one["at"]),
            "dateReceived": _text(one["at"]),
            "user": {"email": "someone@example.com"},
            "tags": [{"key": "environment", "value": "production"}],
            "entries": [
                {
                    "type": "exception",
                    "data": {
                        "values": [
                            {
                                "type": "ValueError",
                                "value": "boom",
                                "stacktrace": {
                                    "frames": [{"filename": "a.py", "lineNo": 3, "inApp": True}]
                                },
                            }
                        ]
                    },
                }
            ],
            "contexts": {"trace": {"trace_id": "ab" * 16, "span_id": "cd" * 8}},
        }


class Loki:
    """Loki's query_range, forward, at most `limit` lines."""

    def __init__(self, lines: Sequence[dict[str, Any]]) -> None:
        self.lines = lines  # pod, at (µs), text, visible (µs)
        self.clock = 1 << 62

    def __call__(self, path: str, params: Params) -> Answer:
        if path.endswith("/labels"):
            return answer({"status": "success", "data": ["pod", "namespace"]})
        if not path.endswith("/query_range"):
            return answer({"message": "not found"}, 404)
        low, high = int(params["start"]), int(params["end"])
        seen = [
            one
            for one in self.lines
            if one["visible"] <= self.clock and low <= one["at"] * 1000 < high
        ]
        seen.sort(key=lambda one: one["at"])
        seen = seen[: int(params["limit"])]
        streams: dict[str, list[list[str]]] = {}
        for one in seen:
            streams.setdefault(one["pod"], []).append([str(one["at"] * 1000), one["text"]])
        for values in streams.values():
            random.Random(low).shuffle(values)
        result = [
            {"stream": {"pod": pod, "namespace": "shop"}, "values": values}
            for pod, values in streams.items()
        ]
        data = {"resultType": "streams", "result": result}
        return answer({"status": "success", "data": data})


class Kubernetes:
    """An API server's lists of events, page by page; an old page's token may be gone (410)."""

    def __init__(self, events: Sequence[dict[str, Any]]) -> None:
        self.events = events  # name, reason, at (s), visible (µs)
        self.clock = 1 << 62
        self.random = random.Random(0)

    def __call__(self, path: str, params: Params) -> Answer:
        if not path.startswith("/api/v1/events"):
            return answer({"kind": "List", "items": []})
        seen = [self.event(one) for one in self.events if one["visible"] <= self.clock]
        start, size = int(params.get("continue", 0)), 7
        if start and self.random.random() < 0.03:
            return answer({"kind": "Status", "reason": "Expired"}, 410)
        more = {"continue": str(start + size)} if start + size < len(seen) else {}
        page = seen[start : start + size]
        return answer({"kind": "EventList", "metadata": more, "items": page})

    @staticmethod
    def event(one: dict[str, Any]) -> dict[str, Any]:
        """An event as the API gives it: its time in whole seconds."""
        return {
            "reason": one["reason"],
            "message": "it did",
            "lastTimestamp": _text(one["at"] * 1_000_000)[:19] + "Z",
            "involvedObject": {"kind": "Pod", "name": one["name"], "namespace": "shop"},
        }


def proxy(url: str) -> Route:
    """Hands every request on to a real server."""
    host = urlsplit(url).netloc

    def route(path: str, params: Params) -> Answer:
        from urllib.parse import urlencode

        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            body = params.get("body")
            if body is None:
                connection.request("GET", f"{path}?{urlencode(params)}")
            else:
                form = "/read" not in path
                kind = "application/x-www-form-urlencoded" if form else "application/x-protobuf"
                headers = {"Content-Type": kind}
                if not form:
                    headers |= {"Content-Encoding": "snappy"}
                    headers |= {"X-Prometheus-Remote-Read-Version": "0.1.0"}
                connection.request("POST", path, bytes.fromhex(body), headers)
            reply = connection.getresponse()
            kind = reply.headers.get("Content-Type", "application/json")
            return reply.status, {"Content-Type": kind}, reply.read()
        finally:
            connection.close()

    return route


def _text(micros: int) -> str:
    from datetime import UTC, datetime

    at = datetime.fromtimestamp(micros // 1_000_000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{micros % 1_000_000:06d}Z"


def _micros(text: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(text).timestamp() * 1_000_000)
