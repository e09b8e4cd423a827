"""Makes the shipped weights from the examples: `python -m rca.intents.train [FILE]`.

The temperature is fitted on software that no phrase was written with (`labelled.CALIBRATING`).
How right the model is: `python -m bench.intents`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rca.intents import features, labelled
from rca.intents.fit import Array, fit, scores, temperature
from rca.intents.labelled import Example
from rca.intents.model import FILE, Model
from rca.intents.taxonomy import INTENTS

FOLDS = 8
ORDER = {name: place for place, name in enumerate(INTENTS)}


def answers(examples: Sequence[Example]) -> NDArray[np.int64]:
    return np.array([ORDER[one.intent] for one in examples], dtype=np.int64)


def trained(examples: Sequence[Example], calibrating: Sequence[Example]) -> Model:
    """The model of some examples, as sure as it is right on others of other software."""
    weights = learned(features.matrix([one.template for one in examples]), answers(examples))
    other = features.matrix([one.template for one in calibrating])
    at = temperature(scores(other, weights), answers(calibrating))
    return Model(weights.astype(np.float16).astype(np.float64), at)


def learned(rows: sparse.csr_matrix, right: NDArray[np.int64]) -> Array:
    """Weights from the examples as they are and with their phrases and concepts hidden."""
    every = (rows, *features.hidden(rows))
    stacked = sparse.vstack(every, format="csr")
    return fit(stacked, np.tile(right, len(every)), len(ORDER))


def left_out(examples: Sequence[Example]) -> Array:
    """Scores of every example by a model that saw no example of its software; the software is
    left out in FOLDS groups."""
    rows, right = features.matrix([one.template for one in examples]), answers(examples)
    names = sorted({one.software for one in examples})
    fold = np.array([names.index(one.software) % FOLDS for one in examples])
    found = np.zeros((len(examples), len(ORDER)))
    for number in range(min(FOLDS, len(names))):
        mine = fold == number
        found[mine] = scores(rows[mine], learned(rows[~mine], right[~mine]))
    return found


def main() -> None:
    model = trained(labelled.read(), labelled.read(labelled.CALIBRATING))
    save(model, Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)


def save(model: Model, file: Path) -> None:
    """The same model gives the same file."""
    np.savez_compressed(
        file, weights=model.weights.astype(np.float16), temperature=np.float64(model.temperature)
    )


if __name__ == "__main__":
    main()
