"""Telemetry of any size for the benchmarks: the same seed gives the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

SERVICES = ("frontend", "checkout", "cart", "pricing", "inventory", "payment", "shipping")
OPERATIONS = ("GET /", "POST /order", "query", "reserve", "charge", "quote", "ship")
SPANS = 12  # a trace


def jaeger_json(path: Path, size: int, seed: int = 7) -> int:
    """A reply of Jaeger's query API of about `size` bytes, some 900 bytes a span with nine tags
    and a log; how many spans it holds."""
    rng = random.Random(seed)
    spans = 0
    with path.open("w", encoding="ascii") as out:
        out.write('{"data":[')
        while out.tell() < size:
            block = [_trace(rng) for _ in range(200)]
            spans += 200 * SPANS
            out.write(("" if spans == 200 * SPANS else ",") + ",".join(block))
        out.write('],"total":0,"limit":0,"offset":0,"errors":null}')
    return spans


def _trace(rng: random.Random) -> str:
    trace = f"{rng.getrandbits(128):032x}"
    ids = [f"{rng.getrandbits(64):016x}" for _ in range(SPANS)]
    start = 1_741_701_600_000_000 + rng.randrange(3_600_000_000)
    spans = ",".join(_span(rng, trace, ids, place, start) for place in range(SPANS))
    processes = ",".join(
        f'"p{place + 1}":{{"serviceName":"{name}","tags":['
        f'{{"key":"k8s.node.name","type":"string","value":"node-{place % 4}"}},'
        f'{{"key":"k8s.pod.name","type":"string","value":"{name}-7d9f8b6c5-{place}xk2p"}}]}}'
        for place, name in enumerate(SERVICES)
    )
    return f'{{"traceID":"{trace}","spans":[{spans}],"processes":{{{processes}}},"warnings":null}}'


def _span(rng: random.Random, trace: str, ids: list[str], place: int, start: int) -> str:
    parent = (
        f'{{"refType":"CHILD_OF","traceID":"{trace}","spanID":"{ids[(place - 1) // 2]}"}}'
        if place
        else ""
    )
    at = start + place * 700
    took = rng.randrange(200, 90_000)
    return (
        f'{{"traceID":"{trace}","spanID":"{ids[place]}","flags":1,'
        f'"operationName":"{OPERATIONS[place % 7]}","references":[{parent}],'
        f'"startTime":{at},"duration":{took},"tags":['
        '{"key":"span.kind","type":"string","value":"server"},'
        '{"key":"http.method","type":"string","value":"GET"},'
        f'{{"key":"http.status_code","type":"int64","value":{200 if rng.random() < 0.98 else 500}}},'
        f'{{"key":"http.route","type":"string","value":"/api/v1/items/{place}"}},'
        f'{{"key":"net.peer.port","type":"int64","value":{rng.randrange(1024, 65535)}}},'
        f'{{"key":"enduser.session","type":"string","value":"s-{rng.randrange(100_000)}"}},'
        '{"key":"internal.span.format","type":"string","value":"otlp"}],'
        f'"logs":[{{"timestamp":{at + 20},"fields":[{{"key":"event","type":"string",'
        '"value":"request served from upstream connection pool"}]}],'
        f'"processID":"p{place % 7 + 1}","warnings":null}}'
    )


def openmetrics(path: Path, series: int, samples: int, seed: int = 7) -> int:
    """OpenMetrics text of counters and gauges, one sample every 15 seconds; how many samples."""
    rng = random.Random(seed)
    start = 1_741_701_600
    with path.open("w", encoding="ascii") as out:
        for kind in ("counter", "gauge"):
            name = "requests" if kind == "counter" else "queue_depth"
            out.write(f"# HELP {name} {name}\n# TYPE {name} {kind}\n")
            for place in range(series // 2):
                labels = f'instance="10.0.{place % 250}.1:9090",job="shop",path="/{place}"'
                value = 0.0
                ending = "_total" if kind == "counter" else ""
                for step in range(samples):
                    value = value + rng.randrange(40) if kind == "counter" else rng.gauss(50, 9)
                    out.write(f"{name}{ending}{{{labels}}} {value:.3f} {start + 15 * step}\n")
        out.write("# EOF\n")
    return series // 2 * 2 * samples
