"""When it began: the split of a suspect's events into before and after that tells most.

Each event is normal or abnormal; the onset maximises the log-likelihood of two shares against
one (a Bernoulli change point).
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl


def change_point(events: pl.DataFrame) -> datetime | None:
    """The time of the first abnormal event after the best split of (ts, abnormal).

    None with fewer than five events on a side, or where the share does not rise.
    """
    ordered = events.sort("ts", "abnormal")
    flags = ordered["abnormal"].to_numpy().astype(np.float64)
    count = len(flags)
    if count < 10 or not flags.any():
        return None
    before = np.cumsum(flags)[:-1]
    sizes = np.arange(1, count)
    p0, p1 = before / sizes, (flags.sum() - before) / (count - sizes)
    gain = _entropy(before, sizes) + _entropy(flags.sum() - before, count - sizes)
    gain = np.where(p1 > p0, gain, -np.inf)
    gain[:4], gain[-4:] = -np.inf, -np.inf
    best = int(np.argmax(gain))
    if not np.isfinite(gain[best]):
        return None
    after = ordered.slice(best + 1).filter("abnormal")["ts"]
    found = after[0] if len(after) else None
    return found if isinstance(found, datetime) else None


def _entropy(hits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Log-likelihood of so many hits in so many trials at their own share."""
    share = np.clip(hits / sizes, 1e-12, 1 - 1e-12)
    return np.asarray(hits * np.log(share) + (sizes - hits) * np.log(1 - share))
