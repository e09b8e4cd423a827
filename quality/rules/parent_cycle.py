"""A span that is its own ancestor: the link is cut at the loop's earliest span, which is marked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from quality import marks

NAME = "parent_cycle"
Index = npt.NDArray[np.int64]


def apply(spans: pl.DataFrame) -> pl.DataFrame:
    """No row is its own ancestor; the cut rows carry the rule's name in `repaired`."""
    parent = parents(spans)
    cut = _cuts(parent, spans["start_ns"].fill_null(0).to_numpy())
    if not len(cut):
        return spans
    here = pl.int_range(pl.len()).is_in(pl.Series(cut).implode())
    return spans.with_columns(
        pl.when(here).then(None).otherwise("parent_span_id").alias("parent_span_id"),
        marks.repaired(NAME, here),
    )


def parents(spans: pl.DataFrame) -> Index:
    """The position of each row's parent in the frame, -1 where there is none."""
    places = spans.select(
        "trace_id", parent_span_id="span_id", place=pl.int_range(pl.len(), dtype=pl.Int64)
    )
    places = places.unique(["trace_id", "parent_span_id"], keep="first", maintain_order=True)
    joined = spans.select("trace_id", "parent_span_id").join(
        places, on=["trace_id", "parent_span_id"], how="left", maintain_order="left"
    )
    return joined["place"].fill_null(-1).to_numpy()


def _cuts(parent: Index, start: Index) -> Index:
    """The earliest row of every loop. Following links 2^k steps at once leaves in loops what
    never reaches an end."""
    size = len(parent)
    step = np.append(np.where(parent < 0, size, parent), size)
    far = step.copy()
    for _ in range(max(size.bit_length(), 1)):
        far = far[far]
    lost = np.unique(far[:-1][far[:-1] < size])  # rows that lie on a loop
    cuts, seen = [], set[int]()
    for first in lost.tolist():
        if first in seen:
            continue
        loop = [first]
        while (after := int(step[loop[-1]])) != first:
            loop.append(after)
        seen.update(loop)
        cuts.append(min(loop, key=lambda row: (start[row], row)))
    return np.array(cuts, np.int64)
