"""Log lines whose template is known: written from format strings (`bench/formats/*.txt`), and
the real ones of `../shared/data` and `sample_data`, told apart by the statement that wrote them.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import polars as pl

ROOT = Path(__file__).parent.parent
FORMATS = ROOT / "bench" / "formats"
_FIELD = re.compile(r"\{([a-z][a-z0-9]*)\}")
_WORDS = {
    "user": "root admin guest oracle alice bob carol deploy postgres jenkins test backup nagios ftp mysql www-data git ubuntu",
    "proc": "java python3 nginx postgres mysqld node redis-server prometheus dockerd etcd",
    "unit": "docker.service nginx.service cron.service ssh.service getty@tty1.service logrotate.service systemd-journald.service kubelet.service chrony.service redis.service",
    "dev": "eth0 eth1 ens3 ens4 enp0s3 wlan0",
    "disk": "sda1 sdb1 nvme0n1p1 dm-0 vdb",
    "db": "shop orders users billing inventory reports",
    "table": "customers orders payments products sessions audit_log stock carts",
    "host": "shop.example.com api.example.com db-1.internal cache.prod.example.org www.acme.com 12.static.isp.net",
    "svc": "cart checkout payment frontend catalog shipping recommendation email",
    "ns": "default kube-system shop monitoring ingress",
    "node": "node-1 node-2 ip-10-0-3-17 worker-a",
    "topic": "orders payments shipments clicks audit",
    "verb": "GET POST PUT DELETE PATCH",
    "status": "200 201 204 301 304 400 401 403 404 429 500 502 503 504",
    "word": "invoice price session profile stock banner token rates menu coupon",
    "city": "berlin lyon porto gdansk turin ghent cork oslo",
    "reason": "insufficient_funds card_expired do_not_honor fraud_suspected limit_exceeded",
    "state": "PRIMARY SECONDARY RECOVERING STARTUP2 ARBITER",
    "astate": "NEW SCHEDULED RUNNING SUCCEEDED UNASSIGNED ASSIGNED COMMIT_PENDING FAILED",
    "currency": "EUR USD CHF SEK GBP JPY",
    "exc": "ValueError KeyError TypeError TimeoutError OperationalError",
    "exe": "chrome.exe outlook.exe firefox.exe teams.exe svchost.exe onedrive.exe",
}  # fmt: skip
_PATHS = [
    "api",
    "v1",
    "v2",
    "orders",
    "items",
    "users",
    "static",
    "img",
    "css",
    "data",
    "var",
    "lib",
    "log",
    "tmp",
    "cart",
    "checkout",
    "login",
]
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "curl/8.5.0",
    "kube-probe/1.31",
    "Go-http-client/2.0",
)
_PHRASES = ("red shoes", "usb cable", "tea", "winter coat size m", "no such row", "bad token")


def _fields(dice: random.Random) -> dict[str, Callable[[], str]]:
    def letters(n: int, of: str) -> str:
        return "".join(dice.choices(of, k=n))

    def whole(low: int, high: int) -> str:
        return str(dice.randint(low, high))

    hexes, small = "0123456789abcdef", string.ascii_lowercase + string.digits

    def clock() -> str:
        return f"{dice.randint(0, 23):02}:{dice.randint(0, 59):02}:{dice.randint(0, 59):02}"

    def path() -> str:
        parts = [dice.choice(_PATHS) for _ in range(dice.randint(1, 4))]
        return "/" + "/".join([*parts, whole(1, 9999)] if dice.random() < 0.5 else parts)

    def obj() -> str:
        keys = dice.sample(["id", "name", "age", "tags", "size", "filter"], dice.randint(1, 3))
        return "{ " + ", ".join(f"{key}: {whole(0, 999)}" for key in keys) + " }"

    made: dict[str, Callable[[], str]] = {
        "ip": lambda: ".".join(whole(1, 254) for _ in range(4)),
        "port": lambda: whole(1024, 65535),
        "int": lambda: whole(10, 10 ** dice.randint(2, 8)),
        "small": lambda: whole(0, 12),
        "float": lambda: f"{dice.random() * 10 ** dice.randint(0, 3):.3f}",
        "secs": lambda: f"{dice.random() * 1e6:.6f}",
        "hash": lambda: letters(32, hexes),
        "hash8": lambda: letters(8, hexes),
        "hexid": lambda: "0x" + letters(dice.randint(3, 14), hexes),
        "b64": lambda: letters(43, string.ascii_letters + string.digits + "+/"),
        "uuid": lambda: "-".join(letters(n, hexes) for n in (8, 4, 4, 4, 12)),
        "block": lambda: f"blk_{dice.choice(['', '-'])}{whole(10**15, 10**18)}",
        "sku": lambda: f"SKU-{whole(1000, 9999)}",
        "clock": lambda: f"{clock()}.{whole(100000, 999999)}",
        "clock2": lambda: f"{dice.randint(0, 59):02}:{dice.randint(0, 59):02}",
        "iso": lambda: f"2026-11-{dice.randint(1, 28):02}T{clock()}.{whole(100, 999)}Z",
        "comma": lambda: f"2026-11-{dice.randint(1, 28):02} {clock()},{whole(100, 999)}",
        "clf": lambda: f"{dice.randint(1, 28):02}/Nov/2026:{clock()} +0000",
        "pod": lambda: (
            f"{dice.choice(_WORDS['svc'].split())}-{letters(9, small)}-{letters(5, small)}"
        ),
        "mail": lambda: f"{letters(6, string.ascii_lowercase)}@example.com",
        "path": path,
        "obj": obj,
        "agent": lambda: dice.choice(_AGENTS),
        "phrase": lambda: dice.choice(_PHRASES),
    }
    return made | {name: partial(dice.choice, words.split()) for name, words in _WORDS.items()}


def written(software: Path, lines: int, seed: int = 1) -> pl.DataFrame:
    """body, truth: lines of one kind of software, some formats far more often than others."""
    dice = random.Random(f"{software.stem} {seed}")
    fields = _fields(dice)
    formats = software.read_text(encoding="utf-8").splitlines()
    weights = [1 / (place + 1) for place in range(len(formats))]
    dice.shuffle(weights)
    rows = []
    for place in dice.choices(range(len(formats)), weights, k=lines):
        body = _FIELD.sub(lambda m: fields[m[1]]() if m[1] in fields else m[0], formats[place])
        rows.append((body, f"{software.stem} {place}"))
    return pl.DataFrame(rows, schema=["body", "truth"], orient="row")


def train_ticket() -> pl.DataFrame | None:
    """body, truth of the real pods' lines. A line names the statement that wrote it (logger#line);
    statements of one logger whose text is the same up to its first value are one template."""
    folder = ROOT / "../shared/data/train-ticket/pods"
    if not folder.exists():
        return None
    bodies = pl.Series("body", list(_container_lines(folder, "*/*/0.log.gz")), pl.String)
    rows = bodies.to_frame().with_columns(
        site=pl.col("body").str.extract(r"\d (\w+ +\S+#\d+) "),
        told=pl.col("body").str.extract(r"SpanID: \S+ (.*)"),
    )
    rows = rows.drop_nulls()
    heads = [
        (site, _common(said))
        for site, said in rows.group_by("site").agg(pl.col("told").unique()).rows()
    ]
    named = pl.DataFrame(
        [(site, f"{site.split('#')[0]} {head}") for site, head in heads],
        schema=["site", "truth"],
        orient="row",
    )
    return rows.join(named, on="site").select("body", "truth")


def _container_lines(folder: Path, pattern: str) -> Iterator[str]:
    for file in sorted(folder.glob(pattern)):
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            try:
                yield json.loads(line)["log"].rstrip("\n")
            except ValueError:
                continue  # two lines of the recording are not JSON


def _common(texts: list[str]) -> str:
    """What texts have in common at the front, up to the first value."""
    low, high = min(texts), max(texts)
    same = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    return re.split(r"[:(={<]", low[:same])[0].strip()


def of_the_sample() -> pl.DataFrame:
    """body, truth of sample_data's pods: how the line is written, and its text without values."""
    bodies = pl.Series("body", list(_container_lines(ROOT / "sample_data", "*/pods/*/*/*.log*")))
    told = pl.col("body").str.extract(r'(?:SpanID: \S+ |msg="|"message": ")(.*?)"?\}?$')
    told = told.str.replace(r"^.* (done in|failed after) [\d.]+ ms$", "OPERATION ${1} N ms")
    style = pl.col("body").str.extract(r"^(\{|level=|[\d:.]+ \w+)").str.replace(r"^[\d:.]+ ", "")
    plain = told.str.replace_all(r"\S*\d\S*", "#")
    level = pl.col("body").str.extract(r"(?i)level[=\": ]+(\w+)").fill_null("")
    rows = bodies.to_frame().with_columns(pl.format("{} {} {}", style, level, plain).alias("truth"))
    return rows.drop_nulls()
