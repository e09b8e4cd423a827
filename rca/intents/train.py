"""Makes the shipped weights from the examples, and states how right the model is.

    python -m rca.intents.train           writes rca/intents/weights.npz
    python -m rca.intents.train --report  right answers by software left out, and the confusions

The temperature is fitted on software that no phrase was written with (`ASIDE`).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rca.intents import features, labelled
from rca.intents.fit import Array, chances, fit, scores, temperature
from rca.intents.labelled import Example
from rca.intents.model import FILE, SURE, Model
from rca.intents.taxonomy import INTENTS

ORDER = {name: place for place, name in enumerate(INTENTS)}


def answers(examples: Sequence[Example]) -> NDArray[np.int64]:
    return np.array([ORDER[one.intent] for one in examples], dtype=np.int64)


def trained(examples: Sequence[Example], calibrating: Sequence[Example]) -> Model:
    """The model of some examples, as sure as it is right on others of other software."""
    rows = features.matrix([one.template for one in examples])
    weights = fit(rows, answers(examples), len(ORDER))
    other = features.matrix([one.template for one in calibrating])
    at = temperature(scores(other, weights), answers(calibrating))
    return Model(weights.astype(np.float16).astype(np.float64), at)


def left_out(examples: Sequence[Example]) -> Array:
    """Scores of every example by a model that saw no example of its software."""
    rows, right = features.matrix([one.template for one in examples]), answers(examples)
    software = np.array([one.software for one in examples])
    found = np.zeros((len(examples), len(ORDER)))
    for name in np.unique(software):
        mine = software == name
        found[mine] = scores(rows[mine], fit(rows[~mine], right[~mine], len(ORDER)))
    return found


def report(examples: Sequence[Example], found: Array, at: float) -> list[str]:
    """How many are right per software, at which coverage, and what is taken for what."""
    right, guess = answers(examples), found.argmax(axis=1)
    sure = chances(found, at).max(axis=1) >= SURE
    hit = right == guess
    lines = [f"{len(examples)} templates: {hit.mean():.1%} right"]
    lines.append(
        f"  of the {sure.mean():.1%} labelled (the others: unknown): {hit[sure].mean():.1%}"
    )
    software = np.array([one.software for one in examples])
    for name in np.unique(software):
        mine = software == name
        lines.append(
            f"  {name:<16}{mine.sum():>5}{hit[mine].mean():>8.1%}{sure[mine].mean():>8.1%}"
        )
    names = list(ORDER)
    wrong = Counter((names[a], names[b]) for a, b in zip(right[~hit], guess[~hit], strict=True))
    lines += [f"  {a} taken for {b}: {count}" for (a, b), count in wrong.most_common()]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--report", action="store_true")
    asked = parser.parse_args()
    examples, calibrating = labelled.read(), labelled.read(labelled.CALIBRATING)
    model = trained(examples, calibrating)
    if asked.report:
        print("\n".join(report(examples, left_out(examples), model.temperature)))
        return
    save(model, FILE)


def save(model: Model, file: Path) -> None:
    """The same model gives the same file."""
    np.savez_compressed(
        file, weights=model.weights.astype(np.float16), temperature=np.float64(model.temperature)
    )


if __name__ == "__main__":
    main()
