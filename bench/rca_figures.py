"""Figures of judged diagnoses, and the fit of the confidence."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from rca import verdict

Row = dict[str, Any]
SIGNALS = ("loud", "lead", "agree")


def place(row: Row, order: Sequence[str], answers: Sequence[str]) -> int:
    """Where the first of the right answers stands, 1 first; 99 where none is listed. Equal
    scores are counted as if the wrong ones stood before."""
    places = [order.index(one) for one in answers if one in order]
    if not places:
        return 99
    best = min(places)
    scores = row.get("scores") if order is row["order"] else None
    if scores:
        ties = [i for i, score in enumerate(scores) if score == scores[best]]
        best = max(*ties, best)
    return best + 1


def right(row: Row) -> bool:
    """Whether the first suspect is a true cause."""
    return any(place(row, row["order"], one) == 1 for one in row["answers"])


def report(rows: Sequence[Row]) -> str:
    """Every figure as text."""
    faulty = [row for row in rows if row["answers"]]
    healthy = [row for row in rows if not row["answers"]]
    out = []
    if faulty:
        out += _hits(faulty)
        out += _kinds(faulty)
        out += _double(faulty) + _onsets(faulty) + _changes(faulty)
    if healthy:
        out += _alarms(healthy)
    out += _sure(rows)
    took = [row["took"] for row in rows if "took" in row]
    if took:
        out.append(
            f"time a diagnosis: median {statistics.median(took):.0f} ms, most {max(took):.0f} ms"
        )
    return "\n".join(out)


def _orders(rows: Sequence[Row]) -> dict[str, list[Sequence[str]]]:
    """Per method the services in its order, of each row; the constant order is the one that is
    most often right of these very rows."""
    names = [row.get("services") or sorted({n for r in rows for n in r["order"]}) for row in rows]
    common = Counter(name for row in rows for one in row["answers"] for name in one)
    constant = [name for name, _ in common.most_common(5)]
    dice = random.Random(7)
    return {
        "rootlake": [row["order"] for row in rows],
        "metrics alone": [row.get("metrics", []) for row in rows],
        "constant": [constant for _ in rows],
        "random": [dice.sample(one, min(5, len(one))) for one in names],
    }


def _places(rows: Sequence[Row]) -> dict[str, list[int]]:
    answers = [[name for one in row["answers"] for name in one] for row in rows]
    return {
        method: [place(*each) for each in zip(rows, orders, answers, strict=True)]
        for method, orders in _orders(rows).items()
    }


def _hits(rows: Sequence[Row]) -> list[str]:
    out = [f"of {len(rows)} incidents, a right service within the first 1 / 3 / 5:"]
    for method, found in _places(rows).items():
        counts = [sum(one <= most for one in found) for most in (1, 3, 5)]
        shares = " ".join(f"{count:4d} {count / len(rows):6.1%}" for count in counts)
        out.append(f"  {method:<14} {shares}  (first {_least(counts[0], len(rows))})")
    return out


def _least(hits: int, count: int) -> str:
    return f"≥ {1 - bound(count - hits, count):.1%} with 95 %"


def _kinds(rows: Sequence[Row]) -> list[str]:
    by: dict[str, Counter[str]] = defaultdict(Counter)
    places = _places(rows)
    for number, row in enumerate(rows):
        counts = by[row["faults"][0]]
        counts["all"] += 1
        counts.update(method for method, found in places.items() if found[number] == 1)
        counts["kind"] += right(row) and row["kinds"][0] in row["faults"]
    total = sum((one for one in by.values()), Counter())
    share = total["kind"] / total["all"]
    out = [f"service and kind of fault right: {total['kind']} of {total['all']}, {share:.1%}"]
    for name, one in sorted(by.items()):
        first = ", ".join(f"{method} {one[method]}" for method in places)
        out.append(
            f"  {name:<14} {one['all']:3d} incidents, kind too {one['kind']:3d}; first: {first}"
        )
    return out


def _double(rows: Sequence[Row]) -> list[str]:
    two = [row for row in rows if len(row["answers"]) > 1]
    if not two:
        return []
    worst = [max(place(row, row["order"], one) for one in row["answers"]) for row in two]
    counts = [sum(one <= most for one in worst) for most in (2, 3, 5)]
    return [f"two faults at once: both within the first 2 / 3 / 5: {counts} of {len(two)}"]


def _onsets(rows: Sequence[Row]) -> list[str]:
    off = [
        (
            datetime.fromisoformat(row["onset"]) - datetime.fromisoformat(row["began"])
        ).total_seconds()
        for row in rows
        if row.get("began") and row.get("onset") and right(row)
    ]
    if not off:
        return []
    size = np.abs(off)
    return [
        (
            f"onset, where the service is right: median error {np.median(size):.0f} s,"
            f" 90 % within {np.quantile(size, 0.9):.0f} s"
        )
    ]


def _changes(rows: Sequence[Row]) -> list[str]:
    told = [row for row in rows if "culprits" in row]
    if not told:
        return []
    caused = [row for row in told if row["culprits"]]
    hit = sum(row.get("change") in row["culprits"] for row in caused)
    decoyed = sum(row.get("change") in row["decoys"] for row in told)
    return [
        (
            f"culprit change named: {hit} of {len(caused)} ({_least(hit, len(caused))}); a decoy"
            f" named: {decoyed} of {len(told)} (≤ {bound(decoyed, len(told)):.1%})"
        )
    ]


def _alarms(rows: Sequence[Row]) -> list[str]:
    opened = sum(bool(row.get("opened")) for row in rows)
    called = sum(row.get("verdict") in {"confirmed", "likely"} for row in rows)
    return [
        (
            f"of {len(rows)} healthy stretches: `detect` opened an incident in {opened}"
            f" (≤ {bound(opened, len(rows)):.1%} with 95 %), a diagnosis asked for was likely or confirmed"
            f" in {called}"
        )
    ]


def _sure(rows: Sequence[Row]) -> list[str]:
    told = [row for row in rows if "confidence" in row]
    if not told:
        return []
    sure = [row for row in told if row["verdict"] == "confirmed"]
    wrong = sum(not right(row) for row in sure)
    verdicts = Counter(row["verdict"] for row in told)
    error = calibration_error([row["confidence"] for row in told], [right(row) for row in told])
    low = 1 - bound(wrong, len(sure)) if sure else 0.0
    shown = f"{(len(sure) - wrong) / len(sure):.1%}" if sure else "–"
    return [
        (
            f"confirmed {verdicts['confirmed']}, likely {verdicts['likely']}, inconclusive"
            f" {verdicts['inconclusive']}; of confirmed right: {shown} (≥ {low:.1%} with 95 %);"
            f" calibration error {error:.3f}"
        )
    ]


def bound(hits: int, count: int) -> float:
    """The upper bound of a share at 95 % confidence, one-sided (Clopper–Pearson)."""
    from scipy.stats import beta

    return 1.0 if hits >= count else float(beta.ppf(0.95, hits + 1, count - hits))


def calibration_error(said: Sequence[float], true: Sequence[bool], bins: int = 10) -> float:
    """The expected calibration error: over ten bins of what was said, how far the mean said is
    from the share that was true, weighed by the bin's size (Naeini, AAAI 2015)."""
    p, y = np.asarray(said, float), np.asarray(true, float)
    place_of = np.minimum((p * bins).astype(int), bins - 1)
    return float(
        sum(
            (place_of == one).mean() * abs(p[place_of == one].mean() - y[place_of == one].mean())
            for one in range(bins)
            if (place_of == one).any()
        )
    )


def fitted(rows: Sequence[Row]) -> str:
    """Fit the confidence and write rca/calibration.json; what it came to, each row judged by
    coefficients found without it."""
    told = [row for row in rows if row.get("signals")]
    x = np.array([[1.0, *(row["signals"][name] for name in SIGNALS)] for row in told])
    y = np.array([right(row) for row in told], float)
    left_out = [
        _logistic(x[i], _newton(np.delete(x, i, 0), np.delete(y, i))) for i in range(len(y))
    ]
    weights = _newton(x, y)
    error = calibration_error(left_out, list(y.astype(bool)))
    kinds = Counter(row["kind"] for row in told)
    kept = {
        "made": "python -m bench.rca fit: logistic regression, ridge 0.5, on generated incidents",
        "rows": dict(kinds),
        "error": round(error, 4),
        "base": round(float(weights[0]), 4),
        "weights": {n: round(float(w), 4) for n, w in zip(SIGNALS, weights[1:], strict=True)},
    }
    place_of = Path(verdict.__file__).parent / "calibration.json"
    place_of.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    sure = np.array(left_out) >= verdict.CONFIRMED
    return (
        f"{len(y)} rows, {y.mean():.1%} right; calibration error, each left out once: {error:.3f};"
        f" confirmed {sure.sum()}, wrong of these {int((y[sure] == 0).sum())}; {kept['weights']}"
    )


def _newton(x: np.ndarray, y: np.ndarray, ridge: float = 0.5) -> np.ndarray:
    """Coefficients of a logistic regression, the first not shrunk."""
    weights = np.zeros(x.shape[1])
    penalty = np.diag([0.0, *[ridge] * (x.shape[1] - 1)])
    for _ in range(50):
        p = _logistic(x, weights)
        slope = x.T @ (y - p) - penalty @ weights
        curve = (x * (p * (1 - p))[:, None]).T @ x + penalty
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def _logistic(x: np.ndarray, weights: np.ndarray) -> Any:
    return 1 / (1 + np.exp(-(x @ weights)))
