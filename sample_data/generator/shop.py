"""The shop: who calls whom, how long it takes, where it runs. All data; no behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Call:
    """A call to another service's operation, made with a chance, one or several times."""

    service: str
    operation: str
    chance: float = 1.0
    queued: bool = False  # handed to a queue, nobody waits


@dataclass(frozen=True)
class Operation:
    """`work` ms of its own (log-normal), `queries` to its store, then its calls in turn."""

    work: float
    queries: int = 0
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Service:
    language: str
    operations: dict[str, Operation]
    store: str | None = None  # what its queries go to
    pool: int = 20  # connections to the store
    patience: float = 2.0  # seconds to wait for one


@dataclass(frozen=True)
class Topology:
    services: dict[str, Service]
    entries: dict[str, float]  # the front door's operations and their share
    front: str
    clusters: tuple[str, ...]
    nodes: int = 3  # per cluster
    namespace: str = "shop"
    versions: dict[str, str] = field(default_factory=dict)


SHOP = Topology(
    front="frontend",
    entries={
        "GET /": 0.30,
        "GET /product/{id}": 0.24,
        "POST /cart/items": 0.16,
        "POST /checkout": 0.18,
        "GET /assistant": 0.12,
    },
    clusters=("eu-1", "us-1"),
    versions={
        "frontend": "4.18.0",
        "checkout": "2.9.1",
        "cart": "1.14.2",
        "catalog": "3.3.0",
        "pricing": "1.8.4",
        "inventory": "2.4.0",
        "payment": "5.1.3",
        "shipping": "1.6.0",
        "recommend": "0.12.5",
        "llm-gateway": "0.9.0",
    },
    services={
        "frontend": Service(
            "node",
            {
                "GET /": Operation(
                    6,
                    calls=(
                        Call("catalog", "GET /products"),
                        Call("recommend", "GET /recommendations"),
                    ),
                ),
                "GET /product/{id}": Operation(
                    5, calls=(Call("catalog", "GET /products/{id}"), Call("pricing", "GET /prices"))
                ),
                "POST /cart/items": Operation(4, calls=(Call("cart", "POST /items"),)),
                "POST /checkout": Operation(7, calls=(Call("checkout", "POST /orders"),)),
                "GET /assistant": Operation(
                    4, calls=(Call("llm-gateway", "POST /v1/chat/completions"),)
                ),
            },
        ),
        "checkout": Service(
            "java",
            {
                "POST /orders": Operation(
                    9,
                    1,
                    (
                        Call("cart", "GET /cart"),
                        Call("pricing", "GET /prices"),
                        Call("inventory", "POST /reservations"),
                        Call("payment", "POST /charges"),
                        Call("shipping", "orders process", queued=True),
                    ),
                )
            },
            store="postgresql",
        ),
        "cart": Service(
            "go",
            {
                "POST /items": Operation(2.5, 1, (Call("pricing", "GET /prices", 0.4),)),
                "GET /cart": Operation(2, 1),
            },
            store="redis",
            pool=32,
        ),
        "catalog": Service(
            "java",
            {"GET /products": Operation(8, 1), "GET /products/{id}": Operation(5, 1)},
            store="postgresql",
        ),
        "pricing": Service("go", {"GET /prices": Operation(3, 1)}, store="redis", pool=32),
        "inventory": Service(
            "python",
            {"POST /reservations": Operation(5, 1)},
            store="postgresql",
            pool=20,
            patience=0.8,
        ),
        "payment": Service("java", {"POST /charges": Operation(45)}),
        "shipping": Service("python", {"orders process": Operation(12, 1)}, store="postgresql"),
        "recommend": Service(
            "python",
            {"GET /recommendations": Operation(14, calls=(Call("catalog", "GET /products", 0.5),))},
        ),
        "llm-gateway": Service("python", {"POST /v1/chat/completions": Operation(6)}),
    },
)
MODELS = ("aurora-2-large-20250301", "aurora-2-mini-20250110")
