"""The shop's repository: some forty commits by several hands, as a git bundle."""

from __future__ import annotations

import os
import subprocess
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sample_data.generator.shop import SHOP
from sample_data.generator.story import BAD_COMMIT, RUNTIME

STOCK_GOOD = '''"""What is in stock, and what is spoken for."""

from db import pool

POOL_SIZE = 20
TIMEOUT_SECONDS = 0.8


def reserve(order):
    """Reserve every line of an order in one go."""
    with pool.connection(size=POOL_SIZE, timeout=TIMEOUT_SECONDS) as db:
        rows = db.query(
            "select sku, available from stock where sku = any(%s) for update",
            [line.sku for line in order.lines],
        )
        return {row.sku: row.available for row in rows}
'''
STOCK_BAD = '''"""What is in stock, and what is spoken for."""

from db import pool

POOL_SIZE = 1
TIMEOUT_SECONDS = 0.8


def reserve(order):
    """Reserve every line of an order, so that the stock shown is never stale."""
    found = {}
    with pool.connection(size=POOL_SIZE, timeout=TIMEOUT_SECONDS) as db:
        for line in order.lines:
            row = db.query_one("select available from stock where sku = %s for update", line.sku)
            found[line.sku] = row.available
    return found
'''
PEOPLE = ("mila", "jonas", "amira", "lin", "tomasz", "noor")
DAYS = datetime(2025, 2, 24, 9, tzinfo=UTC)


def _handler(service: str, note: str) -> str:
    return f'''"""HTTP handlers of {service}."""

from server import route
from {service.replace("-", "_")}_core import answer


@route("/")
def index(request):
    """{note}"""
    return answer(request)
'''


def _values(service: str, version: str, cluster: str, runtime: str = "") -> str:
    extra = f"runtime:\n  image: llm-runtime:{runtime}\n" if runtime else ""
    return f"service: {service}\ncluster: {cluster}\nimage: shop/{service}:{version}\nreplicas: 1\n{extra}"


def commits() -> list[tuple[datetime, str, str, dict[str, str]]]:
    """(when, author, subject, files) of every commit, oldest first."""
    out: list[tuple[datetime, str, str, dict[str, str]]] = []
    first = {"README.md": "# shop\n\nOne folder per service below `services/`.\n"}
    for service, version in SHOP.versions.items():
        first[f"services/{service}/handlers.py"] = _handler(service, "The front page.")
        for cluster in SHOP.clusters:
            runtime = "0.6.3" if service == "llm-gateway" else ""
            first[f"deploy/{cluster}/{service}.yaml"] = _values(service, version, cluster, runtime)
    first["services/inventory/stock.py"] = STOCK_GOOD
    out.append((DAYS, "jonas", "start of the monorepo", first))
    notes = ("Say hello.", "Answer quickly.", "Answer with care.", "Keep it short.")
    for number in range(34):
        service = list(SHOP.versions)[(number * 7) % 10]
        note = notes[number % 4] + f" ({number})"
        if number % 5 == 4:
            files = {
                f"services/{service}/README.md": f"# {service}\n\nRevision {number} of these notes.\n"
            }
            subject = f"{service}: notes for on-call, part {number // 5 + 1}"
        else:
            files = {f"services/{service}/handlers.py": _handler(service, note)}
            subject = f"{service}: {('tidy handlers', 'clearer docstring', 'rename for clarity', 'small clean-up')[number % 4]}"
        out.append((DAYS + timedelta(hours=10 * number + 3), PEOPLE[number % 6], subject, files))
    out += _story()
    return sorted(out, key=lambda one: one[0])


def _story() -> list[tuple[datetime, str, str, dict[str, str]]]:
    def at(day: int, hour: int, minute: int) -> datetime:
        return datetime(2025, 3, day, hour, minute, tzinfo=UTC)

    return [
        (at(11, 11, 52), "mila", BAD_COMMIT, {"services/inventory/stock.py": STOCK_BAD}),
        (
            at(11, 13, 20),
            "jonas",
            "shipping: clearer log lines",
            {"services/shipping/handlers.py": _handler("shipping", "Ship, and say so clearly.")},
        ),
        (
            at(11, 16, 40),
            "mila",
            "inventory: back to one query per order",
            {"services/inventory/stock.py": STOCK_GOOD},
        ),
        (
            at(12, 7, 45),
            "lin",
            "cart: document the item limit",
            {"services/cart/README.md": "# cart\n\nAt most 99 items of a kind.\n"},
        ),
        (
            at(12, 8, 20),
            "amira",
            "pricing: round half even",
            {
                "services/pricing/rounding.py": "from decimal import ROUND_HALF_EVEN\n\nMODE = ROUND_HALF_EVEN\n"
            },
        ),
        (
            at(13, 15, 30),
            "tomasz",
            RUNTIME,
            {"deploy/us-1/llm-gateway.yaml": _values("llm-gateway", "0.9.0", "us-1", "0.7.0")},
        ),
        (
            at(13, 15, 50),
            "noor",
            "frontend: lazy-load hero image",
            {"services/frontend/handlers.py": _handler("frontend", "The hero image comes last.")},
        ),
    ]


def bundle(file: Path) -> dict[str, str]:
    """Write the bundle; subject → sha of every commit. The same bytes every time."""
    with tempfile.TemporaryDirectory() as folder:
        shas = _build(Path(folder))
        file.parent.mkdir(parents=True, exist_ok=True)
        _git(
            folder,
            "-c",
            "pack.threads=1",
            "bundle",
            "create",
            "--quiet",
            str(file.resolve()),
            "--all",
        )
    return shas


def _build(folder: Path) -> dict[str, str]:
    _git(folder, "init", "--quiet", "--initial-branch=main")
    shas = {}
    for when, author, subject, files in commits():
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        stamp = f"{int(when.timestamp())} +0000"
        who = {"NAME": author, "EMAIL": f"{author}@shop.example", "DATE": stamp}
        given = {
            f"GIT_{role}_{key}": value
            for role in ("AUTHOR", "COMMITTER")
            for key, value in who.items()
        }
        _git(folder, "add", "--all")
        _git(folder, "commit", "--quiet", "--allow-empty", "-m", subject, env=given)
        shas[subject] = _git(folder, "rev-parse", "HEAD").strip()
    _git(folder, "tag", "inventory-2.5.0", shas[BAD_COMMIT])
    _git(folder, "tag", "llm-gateway-0.9.0-rt0.7.0", shas[RUNTIME])
    return shas


def _git(folder: str | Path, *words: str, env: dict[str, str] | None = None) -> str:
    fixed = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, **(env or {})}
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        env={**os.environ, **fixed},
        check=True,
    )
    return done.stdout
