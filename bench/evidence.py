"""Which planted faults can be repaired: those whose evidence stands in rows without any fault.

Computed from the truth, not from what the rules find.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl

from bench.corrupt import IDS, Clean, Corrupted
from quality import frame
from quality.clock import skew
from quality.rules import kinship, time_unit
from quality.rules.trace_merged import FAR

Flags = npt.NDArray[np.bool_]
Longs = npt.NDArray[np.int64]
Names = npt.NDArray[np.object_]
DOUBT = 1_000_000  # ns: a time is placed when its bounds leave less


def repairable(clean: pl.DataFrame, planted: Corrupted) -> pl.DataFrame:
    """(arrival, repairable) of every row of the damaged frame."""
    world = World(clean, planted)
    truth = planted.truth
    origin = truth["origin"].to_numpy()
    fault, way = truth["fault"].to_numpy(), truth["way"].to_numpy()
    can = np.zeros(len(origin), bool)
    for name, judge in world.judges().items():
        mine = fault == name
        can[mine] = judge(origin[mine], way[mine])
    on_top = (fault == "") & (truth["merged"] | truth["skewed"] | truth["zoned"]).to_numpy()
    can[on_top] = True
    merged = truth["merged"].to_numpy()
    can[merged] &= world.apart[world.tree.trace[origin[merged]]] & world.rooted[origin[merged]]
    return truth.select("arrival").with_columns(repairable=pl.Series(can))


class World:
    """The clean rows, and which of them are sound: delivered, and without a fault."""

    def __init__(self, clean: pl.DataFrame, planted: Corrupted) -> None:
        self.tree = Clean(clean)
        size = self.tree.size
        truth = planted.truth.filter(pl.col("fault") != "span_duplicate")
        origin = truth["origin"].to_numpy()
        self.fault = np.full(size, "parent_missing", object)
        self.way = np.full(size, "", object)
        self.fault[origin] = truth["fault"].to_numpy()
        self.way[origin] = truth["way"].to_numpy()
        self.sound = self.fault == ""
        self.told = planted.rows
        self.place = np.full(size, -1)
        once = (planted.truth["fault"] != "span_duplicate").to_numpy()
        self.place[origin] = np.flatnonzero(once)
        self.kids = self._kids(self.sound)
        parent = self.tree.parent
        self.has_parent = parent >= 0
        self.parent_sound = self.has_parent & self.sound[parent]
        self.linked = self.parent_sound | (self.kids > 0)
        self.firm, self.grain = self._firm()
        self.host = self.tree.rows["host"].rank("dense").fill_null(0).to_numpy()
        self.unsure = self._clocks(planted)
        # a whole millisecond of a wrong clock is another than that of the right one, at both ends
        self.blur = np.where((self.unsure > 0) & (self.grain > 1_000), 2_000_000, 0)
        self.apart, self.rooted = self._merged(planted)

    def _firm(self) -> tuple[Flags, Longs]:
        """Rows whose kind of call always lies inside its parent, and how finely their service tells
        times."""
        whole = frame.narrow(self.tree.rows)
        above = whole.select(service_above="service", operation_above="operation")
        edges = pl.concat([whole, above[np.maximum(self.tree.parent, 0)]], how="horizontal")
        loose = kinship.loose(whole, whole).with_columns(loose=True)
        joined = edges.join(
            loose, on=kinship.EDGE, how="left", nulls_equal=True, maintain_order="left"
        ).join(
            time_unit.grains(whole, whole),
            on=["service", "operation"],
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )
        return joined["loose"].is_null().to_numpy(), joined["grain"].to_numpy()

    def _clocks(self, planted: Corrupted) -> Longs:
        """How far each row's clock may be off as the calls between sound rows tell it, ns."""
        found = np.zeros(self.tree.size, np.int64)
        truth = planted.truth
        if not truth.select((pl.col("skewed") | pl.col("zoned")).any()).item():
            return found
        names = ("trace_id", "span_id", "parent_span_id")
        told = planted.rows.with_columns(truth[name] for name in names)
        sound = (truth["fault"] == "") & ~truth["origin"].is_duplicated()
        rows = frame.narrow(told.filter(sound))
        asked = frame.narrow(self.tree.rows).select("row", "host", at="start_ns")
        known = skew.corrections(skew.lines(rows), asked.drop_nulls())
        found[known["row"].to_numpy()] = known["doubt"].to_numpy()
        return found

    def _apart(self, rows: Longs, others: Longs) -> Longs:
        """How far the clocks of pairs of rows may be apart, wherever within their doubt the lines
        come to lie; of one clock, not at all."""
        both = 2 * (self.unsure[rows] + self.unsure[others])
        return np.where(self.host[rows] == self.host[others], 0, both)

    def _kids(self, which: Flags) -> npt.NDArray[np.int64]:
        rows = np.flatnonzero((self.tree.parent >= 0) & which)
        return np.bincount(self.tree.parent[rows], minlength=self.tree.size)

    def _merged(self, planted: Corrupted) -> tuple[Flags, Flags]:
        """Traces far from every other under their id, and rows whose links to the root are sound."""
        truth = planted.truth
        count = int(self.tree.trace.max()) + 1
        far = np.zeros(count, bool)
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, self.tree.trace, self.tree.start_ns)
        whole = self.sound.copy()
        while True:
            after = whole & (~self.has_parent | whole[self.tree.parent])
            if (after == whole).all():
                break
            whole = after
        root = np.zeros(count, bool)
        root[self.tree.trace[~self.has_parent & self.sound]] = True
        rows = truth.filter(pl.col("merged"), pl.col("fault") == "")
        now = planted.rows.select("arrival", came="trace_id").join(rows, on="arrival")
        home = dict(
            zip(self.tree.rows["trace_id"].to_list(), self.tree.trace.tolist(), strict=True)
        )
        guests = self.tree.trace[now["origin"].to_numpy()]
        hosts = np.array([home[name] for name in now["came"].to_list()], np.int64)
        far[guests] = np.abs(first[guests] - first[hosts]) >= FAR
        far[guests] &= root[hosts]
        return far, whole

    def judges(self) -> dict[str, Callable[[Longs, Names], Flags]]:
        """fault → which rows (origin, way) can be repaired."""
        return {
            "id_format": self._format,
            "id_truncated": self._truncated,
            "id_missing": self._missing,
            "id_corrupt": self._corrupt,
            "trace_split": self._split,
            "span_shared": self._shared,
            "parent_cycle": self._cycle,
            "time_unit": self._unit,
            "time_implausible": self._implausible,
            "duration_negative": self._negative,
            "span_duplicate": lambda rows, _way: self.sound[rows],
        }

    def _by_group(self, rows: Longs, evident: Flags) -> Flags:
        """A fragment is as evident as one of its rows."""
        told = self.told["trace_id"].gather(self.place[rows])
        shown = pl.DataFrame({"told": told, "evident": pl.Series(evident)})
        return shown.select(pl.col("evident").any().over("told")).to_series().to_numpy()

    def _format(self, rows: Longs, way: Names) -> Flags:
        """All but a decimal that has as many digits as a hex id: it may be one."""
        plain = np.ones(len(rows), bool)
        for name in IDS:
            told = self.told[name].gather(self.place[rows])
            changed = told.ne_missing(self.tree.rows[name].gather(rows))
            plain &= ~(changed & told.str.len_chars().is_in([16, 32])).fill_null(False).to_numpy()
        return (way != "decimal") | plain

    def _truncated(self, rows: Longs, way: Names) -> Flags:
        several = np.bincount(self.tree.trace, weights=self.sound)[self.tree.trace[rows]] >= 2
        return self._by_group(rows, (self.linked[rows] & several) | (way == "tid"))

    def _missing(self, rows: Longs, way: Names) -> Flags:
        alone = (
            np.bincount(
                self.tree.trace,
                weights=((self.fault == "id_missing") & (self.way == "span_id"))
                | (self.fault == "parent_missing")
                | np.isin(self.way, ["span_id", "parent_span_id"]) & (self.fault == "id_corrupt")
                | (self.fault == "span_shared")
                | (self.fault == "parent_cycle"),
            )
            == 1
        )
        bound = self._kids(self.sound & self.firm)[rows] > 0
        named = alone[self.tree.trace[rows]] & bound & self._nested(rows)
        linked = self.linked[rows] & self._agreed(rows) & self._named(rows)
        return np.where(way == "trace_id", linked, named)

    def _agreed(self, rows: Longs) -> Flags:
        """No neighbour of the row is under another id, nor, if it is the root, any piece of its trace."""
        other = self.fault == "trace_split"
        kids = np.bincount(self.tree.parent[other & self.has_parent], minlength=self.tree.size)
        above = self.has_parent[rows] & other[self.tree.parent[rows]]
        pieces = np.bincount(self.tree.trace, weights=other) > 0
        claimed = ~self.has_parent[rows] & pieces[self.tree.trace[rows]]
        return (kids[rows] == 0) & ~above & ~claimed

    def _corrupt(self, rows: Longs, way: Names) -> Flags:
        others = np.bincount(self.tree.trace, weights=self.sound) >= 2
        trace = self.linked[rows] & others[self.tree.trace[rows]]
        span = self.kids[rows] >= 2
        parent = self.tree.parent[rows]
        link = self.parent_sound[rows] & (self.kids[parent] >= 1)
        return np.select([way == "trace_id", way == "span_id"], [trace, span], link)

    def _split(self, rows: Longs, _way: Names) -> Flags:
        return self._by_group(rows, self.parent_sound[rows] & self._named(rows))

    def _named(self, rows: Longs) -> Flags:
        """The root of the row's trace is sound (or the row itself), and another row is."""
        root = np.bincount(self.tree.trace, weights=self.sound & ~self.has_parent) > 0
        several = np.bincount(self.tree.trace, weights=self.sound) >= 2
        trace = self.tree.trace[rows]
        return (root[trace] | ~self.has_parent[rows]) & several[trace]

    def _shared(self, rows: Longs, _way: Names) -> Flags:
        return np.ones(len(rows), bool)

    def _cycle(self, rows: Longs, way: Names) -> Flags:
        """The rest of the loop is sound: from the span that is told as the parent up to the row."""
        told = self.told["parent_span_id"].gather(self.place[rows])
        names = pl.DataFrame({"span_id": told, "number": np.arange(len(rows))})
        known = self.tree.rows.select("span_id", at=pl.int_range(pl.len(), dtype=pl.Int64))
        at = names.join(known, on="span_id", how="left", maintain_order="left")["at"].to_numpy()
        at, fine = at.copy(), np.ones(len(rows), bool)
        while (walking := (at != rows) & (at >= 0)).any():
            fine[walking] &= self.sound[at[walking]]
            at[walking] = self.tree.parent[at[walking]]
        return (way == "self") | fine

    def _unit(self, rows: Longs, way: Names) -> Flags:
        return (way != "s") | self.linked[rows]

    def _bounds(self, rows: Longs) -> tuple[Longs, Longs, Longs, Longs]:
        """Parent's and children's interval as far as these are sound, each as surely as its
        resolution and the row's own allow."""
        tree, far = self.tree, np.iinfo(np.int64).max // 2
        start, end = tree.start_ns, tree.start_ns + tree.duration_ns
        grain = np.where(start % 1_000_000 == 0, 1_000_000, 1_000)
        own = np.where(tree.duration_ns[rows] % 1_000_000 == 0, 1_000_000, self.grain[rows])
        kind = tree.rows["kind"].fill_null("").to_numpy()
        up = self.parent_sound[rows] & self.firm[rows]
        parent = tree.parent[rows]
        apart = self._apart(rows, parent)
        waited = (kind[rows] != "consumer") & (kind[parent] != "producer")
        low = np.where(up, start[parent] - grain[parent] - own - apart, -far)
        late = 2 * grain[parent] + 2 * own + apart
        high = np.where(up & waited, end[parent] + late, far)
        kids = np.flatnonzero(self.has_parent & self.sound & self.firm)
        apart = self._apart(kids, tree.parent[kids])
        first, last = np.full(tree.size, far), np.full(tree.size, -far)
        np.minimum.at(first, tree.parent[kids], (start + grain)[kids] + apart)
        waited = kind[kids] != "consumer"
        ended = kids[waited]
        np.maximum.at(last, tree.parent[ended], (end - 2 * grain)[ended] - apart[waited])
        return low, high, first[rows] + own, last[rows] - 2 * own

    def _nested(self, rows: Longs) -> Flags:
        """The row truly lies inside its parent and around its children: recorded ones do not
        always."""
        low, high, first, last = self._bounds(rows)
        start = self.tree.start_ns[rows]
        end = start + self.tree.duration_ns[rows]
        return (low <= start) & (end <= high) & (start <= first) & (last <= end)

    def _implausible(self, rows: Longs, way: Names) -> Flags:
        low, high, first, last = self._bounds(rows)
        length = self.tree.duration_ns[rows]
        width = np.minimum(high - length, first) - np.maximum(low, last - length)
        return (
            self.parent_sound[rows]
            & self.firm[rows]
            & self._nested(rows)
            & ((width <= DOUBT) | (way == "wrap") & (width < 60_000_000_000))
        )

    def _negative(self, rows: Longs, way: Names) -> Flags:
        _, high, first, _ = self._bounds(rows)
        start, length = self.tree.start_ns[rows], self.tree.duration_ns[rows]
        told = start + length  # as the start; with its sign turned the span would end later still
        end, blur = told + length, self.blur[rows]
        beyond = (end > high + blur) | (told > first + blur)
        return (way == "swapped") & self._nested(rows) & beyond
