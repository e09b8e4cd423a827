"""Faults planted into clean spans, with the truth kept aside.

    python -m bench.corrupt SPANS.parquet DAMAGED.parquet TRUTH.parquet --rate 0.01 --seed 7

Reads rows of `raw_spans` that are right, and writes them damaged: every fault of the design at a
share of rows, each row with one fault of its own at most, clocks and zones of whole sources and
merged traces on top. `truth` has one row per damaged row, in its order.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.traffic import hexes
from quality.rules.time_unit import BY_CHANCE

Rng = np.random.Generator
Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
ROW_FAULTS = (
    "id_format",
    "id_truncated",
    "id_missing",
    "id_corrupt",
    "trace_split",
    "span_shared",
    "parent_cycle",
    "parent_missing",
    "time_unit",
    "time_implausible",
    "duration_negative",
    "span_duplicate",
)
FAULTS = (*ROW_FAULTS, "trace_merged", "time_zone", "clock_skew")
IDS = ("trace_id", "span_id", "parent_span_id")

FUTURE = 4_102_444_800_000_000  # µs: the year 2100


class Corrupted(NamedTuple):
    """rows: the damaged raw spans, shuffled and numbered anew by `arrival`; truth: a row for each
    of them, of the same `arrival`: `origin` (place in the clean frame), `parent` (origin of its
    parent, -1), `fault`, `way` (how), `merged` (`under` which id), `zoned`, `skewed`, and what is true: trace_id,
    span_id, parent_span_id, start_ns, duration_ns; lost: origins that were taken away."""

    rows: pl.DataFrame
    truth: pl.DataFrame
    lost: Longs


class Clean:
    """A clean frame with its tree: the position of every row's parent and the rows' depth."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.size = rows.height
        places = rows.select("trace_id", parent_span_id="span_id", place=pl.int_range(pl.len()))
        places = places.unique(["trace_id", "parent_span_id"], keep="first", maintain_order=True)
        joined = rows.select("trace_id", "parent_span_id").join(
            places, on=["trace_id", "parent_span_id"], how="left", maintain_order="left"
        )
        self.parent = joined["place"].cast(pl.Int64).fill_null(-1).to_numpy()
        self.trace = rows.select(pl.col("trace_id").rank("dense")).to_series().cast(pl.Int64).to_numpy() - 1  # fmt: skip
        self.children = np.bincount(self.parent[self.parent >= 0], minlength=self.size)
        scale = np.where(rows["start_unit"].to_numpy() == "ns", 1, 1000)
        self.start_ns = rows["start"].to_numpy() * scale
        self.duration_ns = rows["duration"].to_numpy() * scale

    def below(self, tops: Flags) -> Longs:
        """For every row the topmost of `tops` at or above it, -1 where there is none."""
        label = np.where(tops, np.arange(self.size), -1)
        while True:
            above = np.where(self.parent >= 0, label[self.parent], -1)
            after = np.where(above >= 0, above, label)
            if (after == label).all():
                return label
            label = after


class Plan:
    """Which row gets which fault."""

    def __init__(self, clean: Clean, rng: Rng) -> None:
        self.clean, self.rng = clean, rng
        self.fault = np.full(clean.size, "", object)
        self.way = np.full(clean.size, "", object)
        self.group = np.full(clean.size, -1, np.int64)

    def free(self, count: float, among: Flags | None = None) -> Longs:
        """Some rows without a fault yet."""
        can = self.fault == ""
        if among is not None:
            can &= among
        rows = np.flatnonzero(can)
        return self.rng.permutation(rows)[: round(count)]

    def put(self, rows: Longs, fault: str, way: Any) -> None:
        self.fault[rows], self.way[rows] = fault, way

    def draw(self, rows: Longs, shares: Mapping[str, float]) -> Any:
        names, weights = list(shares), np.array(list(shares.values()))
        return self.rng.choice(np.array(names, object), len(rows), p=weights / weights.sum())


def corrupt(
    clean: pl.DataFrame,
    rates: Mapping[str, float] | float,
    seed: int = 7,
    hosts: Mapping[str, tuple[float, float, float, float]] | None = None,
    zones: Mapping[str, int] | None = None,
) -> Corrupted:
    """The rows with faults at the given shares (one number: each of ROW_FAULTS and trace_merged).

    `hosts`: host → (offset ms, drift ppm, second of a step, step ms); `zones`: service → quarter
    hours by which all of its times are off.
    """
    rng = np.random.default_rng([seed, 2])
    shares = (
        dict.fromkeys((*ROW_FAULTS, "trace_merged"), rates) if isinstance(rates, float) else rates
    )
    tree = Clean(clean)
    plan = Plan(tree, rng)
    for fault in ROW_FAULTS:
        if share := shares.get(fault, 0.0):
            _choose(plan, fault, share * tree.size)
    damage = Damage(tree, plan, rng)
    merged = damage.merge(shares.get("trace_merged", 0.0))
    damage.clocks(hosts or {}, zones or {})
    damage.rows()
    return damage.done(merged, zones or {}, hosts or {})


def _choose(plan: Plan, fault: str, count: float) -> None:
    """Mark the rows of one fault."""
    tree, draw = plan.clean, plan.draw
    has_parent, has_child = tree.parent >= 0, tree.children > 0
    if fault == "trace_split" or fault == "id_truncated":
        _subtrees(plan, fault, count)
    elif fault == "span_shared":
        _shared(plan, count)
    elif fault == "parent_cycle":
        rows = plan.free(count, has_child)
        ways = draw(rows, {"self": 1, "loop": 3})
        plan.put(rows, fault, ways)
    elif fault == "parent_missing":
        plan.put(plan.free(count, has_child), fault, "lost")
    elif fault == "id_corrupt":
        rows = plan.free(count)
        ways = draw(rows, {"trace_id": 3, "span_id": 1, "parent_span_id": 1})
        ways[(ways == "parent_span_id") & ~has_parent[rows]] = "trace_id"
        plan.put(rows, fault, ways)
    elif fault == "id_missing":
        rows = plan.free(count)
        plan.put(rows, fault, draw(rows, {"trace_id": 3, "span_id": 1}))
    else:
        ways = {
            "id_format": {"upper": 1, "0x": 1, "dashes": 1, "base64": 1, "decimal": 1, "zeros": 1},
            "time_unit": {"ms": 2, "ns": 2, "s": 1},
            "time_implausible": {"zero": 1, "future": 1, "wrap": 1},
            "duration_negative": {"swapped": 3, "sign": 1},
            "span_duplicate": {"whole": 1, "partial": 1},
        }[fault]
        rows = plan.free(count)
        plan.put(rows, fault, draw(rows, ways))


def _subtrees(plan: Plan, fault: str, count: float) -> None:
    """Subtrees under one other id; of truncated ids half are of single rows, a third of which
    carry the upper half as a tag."""
    tree = plan.clean
    if fault == "id_truncated":
        rows = plan.free(count / 2)
        plan.put(rows, fault, plan.draw(rows, {"row": 2, "tid": 1}))
        count /= 2
    tops = plan.free(count, tree.parent >= 0)
    mark = np.zeros(tree.size, bool)
    mark[tops] = True
    label = tree.below(mark)
    _, first, sizes = np.unique(label, return_index=True, return_counts=True)
    names = label[first]
    order = plan.rng.permutation(np.flatnonzero(names >= 0))
    chosen = names[order[np.cumsum(sizes[order]) <= max(count, 1)]]
    inside = np.isin(label, chosen) & (label >= 0) & (plan.fault == "")
    plan.put(np.flatnonzero(inside), fault, "subtree")
    plan.group[inside] = label[inside]


def _shared(plan: Plan, count: float) -> None:
    """Calls of which client and server have one id; with the server's children."""
    tree = plan.clean
    kind = tree.rows["kind"].fill_null("").to_numpy()
    pair = (kind == "server") & (tree.parent >= 0)
    pair &= (kind[tree.parent] == "client") & (tree.children[tree.parent] == 1)
    pair &= (plan.fault == "") & (plan.fault[tree.parent] == "")
    servers = plan.free(count / 3, pair)
    is_server = np.zeros(tree.size, bool)
    is_server[servers] = True
    kids = np.flatnonzero((tree.parent >= 0) & is_server[tree.parent])
    fine = np.bincount(tree.parent[kids], (plan.fault[kids] != "").astype(float), tree.size) == 0
    servers = servers[fine[servers]]
    is_server[:] = False
    is_server[servers] = True
    kids = np.flatnonzero((tree.parent >= 0) & is_server[tree.parent])
    plan.put(servers, "span_shared", "server")
    plan.put(kids, "span_shared", "child")
    plan.put(tree.parent[servers], "span_shared", "client")


class Damage:
    """The columns while faults are written into them."""

    def __init__(self, tree: Clean, plan: Plan, rng: Rng) -> None:
        self.tree, self.plan, self.rng = tree, plan, rng
        self.start = tree.rows["start"].to_numpy().copy()
        self.duration = tree.rows["duration"].to_numpy().copy()
        self.ids = {name: tree.rows[name] for name in IDS}
        self.under = self.ids["trace_id"]  # with the ids of merged traces, but no other fault
        self.attributes = tree.rows["attributes"]
        self.grain = np.where(tree.rows["start_unit"].to_numpy() == "ns", 1000, 1)  # per µs

    def _set(self, column: str, rows: Longs, values: pl.Series) -> None:
        if len(rows):
            self.ids[column] = self.ids[column].clone().scatter(rows, values)

    def clocks(
        self, hosts: Mapping[str, tuple[float, float, float, float]], zones: Mapping[str, int]
    ) -> None:
        """What wrong clocks would have shown, each as finely as it tells."""
        names = self.tree.rows["host"].fill_null("").to_numpy()
        micros = self.tree.start_ns // 1000
        since = (micros - micros.min()) / 1e6
        coarse, began = self._coarse(), self._began()
        for host, (offset, drift, second, step) in hosts.items():
            mine = names == host
            shift = offset * 1e3 + drift * since + np.where(since >= second, step * 1e3, 0.0)
            shift = np.round(shift).astype(np.int64)
            whole, shown = mine & coarse, mine & ~coarse
            self.start[shown] += shift[shown] * self.grain[shown]
            end = (micros + self.tree.duration_ns // 1000 + shift)[whole] // 1000 * 1000
            start = (began + shift)[whole] // 1000 * 1000
            self.start[whole] = start * self.grain[whole]
            self.duration[whole] = np.maximum(end - start, 0) * self.grain[whole]
        services = self.tree.rows["service"].fill_null("").to_numpy()
        for service, quarters in zones.items():
            mine = services == service
            self.start[mine] += quarters * 900_000_000 * self.grain[mine]

    def _coarse(self) -> Flags:
        """Rows of operations that tell whole milliseconds."""
        rows = self.tree.rows.select("service", "operation", at=pl.Series(self.tree.start_ns))
        share = (pl.col("at") % 1_000_000 == 0).mean().over("service", "operation")
        return rows.select(share > BY_CHANCE).to_series().to_numpy()

    def _began(self) -> Longs:
        """When each row may have begun, µs: one told in whole milliseconds no earlier than its
        parent, if that began within the millisecond."""
        told = began = self.tree.start_ns // 1000
        parent, coarse = self.tree.parent, self._coarse()
        while True:
            above = np.where(coarse & (parent >= 0), began[parent], told)
            after = np.where((above > told) & (above < told + 1000), above, told)
            if (after == began).all():
                return began
            began = after

    def rows(self) -> None:
        """Every fault of single rows and subtrees."""
        for fault, write in self._writers().items():
            rows = np.flatnonzero(self.plan.fault == fault)
            if len(rows):
                write(rows, self.plan.way[rows])

    def _writers(self) -> dict[str, Callable[[Longs, Any], None]]:
        return {
            "id_format": self._format,
            "id_truncated": self._truncate,
            "id_missing": self._forget,
            "id_corrupt": self._digits,
            "trace_split": self._split,
            "span_shared": self._share,
            "parent_cycle": self._loop,
            "time_unit": self._unit,
            "time_implausible": self._implausible,
            "duration_negative": self._negative,
        }

    def _format(self, rows: Longs, ways: Any) -> None:
        column = self.rng.choice(np.array([0, 0, 1, 2, 3]), len(rows))  # 3: all of them
        for place, name in enumerate(IDS):
            mine = (column == place) | (column == 3)
            for way in np.unique(ways):
                chosen = rows[mine & (ways == way)]
                self._set(name, chosen, _written(self.ids[name].gather(chosen), way))

    def _truncate(self, rows: Longs, ways: Any) -> None:
        ids = self.ids["trace_id"].gather(rows)
        self._set("trace_id", rows, ids.str.slice(16))
        told = rows[ways == "tid"]
        tag = pl.select(
            pl.concat_str(
                pl.lit('[{"key":"_dd.p.tid","value":"'),
                ids.filter(pl.Series(ways == "tid")).str.slice(0, 16),
                pl.lit('"}]'),
            )
        ).to_series() if len(told) else None  # fmt: skip
        if tag is not None:
            self.attributes = self.attributes.clone().scatter(told, tag)

    def _forget(self, rows: Longs, ways: Any) -> None:
        for name in ("trace_id", "span_id"):
            chosen = rows[ways == name]
            size = 32 if name == "trace_id" else 16
            texts = np.array([None, "", "0" * size, "not an id"], object)
            self._set(
                name,
                chosen,
                pl.Series(self.rng.choice(texts, len(chosen)).tolist(), dtype=pl.String),
            )

    def _digits(self, rows: Longs, ways: Any) -> None:
        for name in IDS:
            chosen = rows[ways == name]
            if len(chosen):
                most = 3 if name == "trace_id" else 2
                self._set(name, chosen, _damaged(self.rng, self.ids[name].gather(chosen), most))

    def _split(self, rows: Longs, _ways: Any) -> None:
        groups, place = np.unique(self.plan.group[rows], return_inverse=True)
        fresh = hexes(self.rng, len(groups), 16)
        self._set("trace_id", rows, fresh.gather(place))

    def _share(self, rows: Longs, ways: Any) -> None:
        parent, true = self.tree.parent, self.tree.rows
        servers, kids = rows[ways == "server"], rows[ways == "child"]
        clients = parent[servers]
        self._set("span_id", servers, true["span_id"].gather(clients))
        self._set("parent_span_id", servers, true["parent_span_id"].gather(clients))
        self._set("parent_span_id", kids, true["span_id"].gather(parent[parent[kids]]))

    def _loop(self, rows: Longs, ways: Any) -> None:
        alone = rows[ways == "self"]
        self._set("parent_span_id", alone, self.tree.rows["span_id"].gather(alone))
        ring = rows[ways == "loop"]
        first = pl.DataFrame({"up": self.tree.parent, "down": np.arange(self.tree.size)})
        child = first.unique("up", keep="first", maintain_order=True)
        child_of = dict(zip(child["up"].to_list(), child["down"].to_list(), strict=True))
        down = np.array([child_of[row] for row in ring.tolist()], np.int64)
        deeper = self.rng.random(len(ring)) < 0.5
        down = np.array(
            [
                child_of.get(d, d) if more else d
                for d, more in zip(down.tolist(), deeper, strict=True)
            ],
            np.int64,
        )
        self._set("parent_span_id", ring, self.tree.rows["span_id"].gather(down))

    def _unit(self, rows: Longs, ways: Any) -> None:
        for way, scale in {"ms": 1e-3, "s": 1e-6, "ns": 1e3}.items():
            chosen = rows[ways == way]
            for values in (self.start, self.duration):
                micros = values[chosen] // self.grain[chosen]
                values[chosen] = micros * 1000 if scale > 1 else micros // int(1 / scale)

    def _implausible(self, rows: Longs, ways: Any) -> None:
        self.start[rows[ways == "zero"]] = 0
        self.start[rows[ways == "future"]] = FUTURE
        self.start[rows[ways == "wrap"]] &= 0xFFFFFFFF

    def _negative(self, rows: Longs, ways: Any) -> None:
        swapped = rows[ways == "swapped"]
        self.start[swapped] += self.duration[swapped]
        self.duration[rows] = -np.maximum(self.duration[rows], 1)

    def merge(self, share: float) -> Flags:
        """Whole requests under the id of another: rows that lost their own."""
        merged = np.zeros(self.tree.size, bool)
        count = int(self.tree.trace.max()) + 1
        begin = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(begin, self.tree.trace, self.tree.start_ns // 1000)
        pairs = int(share * count)
        if not pairs:
            return merged
        order = self.rng.permutation(count)[: 2 * pairs]
        order = order[np.argsort(begin[order])]
        host, guest = order[:pairs], order[pairs : 2 * pairs]
        true = pl.Series(self.tree.rows["trace_id"])
        first = np.full(count, -1)
        first[self.tree.trace[::-1]] = np.arange(self.tree.size)[::-1]
        becomes = np.full(count, -1)
        becomes[guest[: len(host)]] = first[host[: len(guest)]]
        merged = becomes[self.tree.trace] >= 0
        rows = np.flatnonzero(merged)
        self._set("trace_id", rows, true.gather(becomes[self.tree.trace[rows]]))
        self.under = self.ids["trace_id"]
        return merged

    def done(self, merged: Flags, zones: Collection[str], hosts: Collection[str]) -> Corrupted:
        """Rows lost, rows doubled, all of them shuffled."""
        fault, way = self.plan.fault, self.plan.way
        doubled = np.flatnonzero(fault == "span_duplicate")
        lost = np.flatnonzero(fault == "parent_missing")
        truth = self.tree.rows.select(*IDS).with_columns(
            origin=pl.int_range(pl.len(), dtype=pl.Int64),
            parent=pl.Series(self.tree.parent),
            start_ns=pl.Series(self.tree.start_ns),
            duration_ns=pl.Series(self.tree.duration_ns),
            fault=pl.Series(fault, dtype=pl.String),
            way=pl.Series(way, dtype=pl.String),
            merged=pl.Series(merged),
            under=self.under,
            zoned=self.tree.rows["service"].is_in(list(zones)).fill_null(value=False),
            skewed=self.tree.rows["host"].is_in(list(hosts)).fill_null(value=False),
        )
        damaged = self.tree.rows.with_columns(
            **self.ids,
            start=pl.Series(self.start),
            duration=pl.Series(self.duration),
            attributes=self.attributes,
        )
        single = truth.with_columns(
            fault=pl.when(pl.col("fault") == "span_duplicate").then(pl.lit("")).otherwise("fault")
        )
        copies = damaged[doubled]
        partial = pl.Series(way[doubled] == "partial", dtype=pl.Boolean)
        copies = copies.with_columns(
            pl.when(partial).then(None).otherwise(name).alias(name)
            for name in ("attributes", "resource", "events", "links", "kind")
        )
        rows = pl.concat([damaged, copies])
        told = pl.concat([single, truth[doubled]])
        keep = np.ones(rows.height, bool)
        keep[lost] = False
        order = self.rng.permutation(np.flatnonzero(keep))
        number = pl.int_range(pl.len(), dtype=pl.Int64)
        return Corrupted(
            rows[order].with_columns(arrival=number), told[order].with_columns(arrival=number), lost
        )


def _written(ids: pl.Series, way: str) -> pl.Series:
    """Ids in another notation."""
    text = pl.col(ids.name)
    size = 32 if ids.name == "trace_id" else 16
    ways = {
        "upper": text.str.to_uppercase(),
        "0x": "0x" + text,
        "dashes": pl.concat_str(
            *(
                text.str.slice(a, b - a)
                for a, b in zip((0, 8, 12, 16, 20), (8, 12, 16, 20, 32), strict=True)
            ),
            separator="-",
        )
        if size == 32
        else pl.concat_str(text.str.slice(0, 8), text.str.slice(8), separator="-"),
        "base64": text.str.decode("hex", strict=False).bin.encode("base64"),
        "decimal": _decimal(text),
        "zeros": text.str.strip_chars_start("0"),
    }
    return ids.to_frame().select(ways[way]).to_series()


def _decimal(text: pl.Expr) -> pl.Expr:
    high = text.str.slice(0, text.str.len_chars() - 16)
    high = high.replace("", "0").str.to_integer(base=16, dtype=pl.UInt64, strict=False)
    low = text.str.slice(text.str.len_chars() - 16).str.to_integer(
        base=16, dtype=pl.UInt64, strict=False
    )
    whole = high.cast(pl.UInt128) * (1 << 64) + low.cast(pl.UInt128)
    return whole.cast(pl.String)


def _damaged(rng: Rng, ids: pl.Series, most: int) -> pl.Series:
    """One to `most` digits of each id made another."""
    size = 32 if ids.name == "trace_id" else 16
    digits = np.frombuffer("".join(ids.to_list()).encode(), np.uint8).reshape(-1, size).copy()
    count = rng.integers(1, most + 1, len(ids))
    alphabet = np.frombuffer(b"0123456789abcdef", np.uint8)
    value = np.where(digits >= 97, digits - 87, digits - 48)
    places = rng.permuted(np.tile(np.arange(size), (len(ids), 1)), axis=1)[:, :most]
    for turn in range(most):
        rows = np.flatnonzero(count > turn)
        at = places[rows, turn]
        digits[rows, at] = alphabet[(value[rows, at] + rng.integers(1, 16, len(rows))) % 16]
    return pl.Series([row.tobytes().decode() for row in digits], dtype=pl.String)


def main() -> None:
    """Damage a file of clean spans."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clean", type=Path)
    parser.add_argument("damaged", type=Path)
    parser.add_argument("truth", type=Path)
    parser.add_argument("--rate", type=float, default=0.01, help="of every fault")
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    found = corrupt(pl.read_parquet(given.clean), given.rate, given.seed)
    found.rows.write_parquet(given.damaged)
    found.truth.write_parquet(given.truth)


if __name__ == "__main__":
    main()
