"""How often the intent of a log template is right, by software that the model never saw.

    python -m bench.intents            also refits with software left out (about 2 CPU minutes)
    python -m bench.intents --aside    the shipped model on the software kept aside (seconds)

Three sets, by how far the model is from them: `examples`, each kind of software judged by a model
that learned from the others (the phrases of `rca.intents.phrases` were written with all of them
in sight, so this flatters); `calibrating`, which only the temperature and the threshold were
chosen with; `bench/aside`, written last, which nothing was tuned with. The named alternative is the constant:
the most frequent intent of the set.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rca.intents import labelled, model
from rca.intents.fit import Array, chances
from rca.intents.labelled import Example
from rca.intents.taxonomy import INTENTS
from rca.intents.train import answers, left_out

ASIDE = Path(__file__).parent / "aside"


def shipped(examples: Sequence[Example]) -> Array:
    """Scores by the shipped model."""
    return model.scored([one.template for one in examples], model.load().weights)


def report(name: str, examples: Sequence[Example], found: Array) -> list[str]:
    """Right answers of all and of those labelled, per software; the confusions; calibration."""
    right, guess = answers(examples), found.argmax(axis=1)
    sure = chances(found, model.load().temperature).max(axis=1)
    told, hit = sure >= model.SURE, right == guess
    most = Counter(right.tolist()).most_common(1)[0][1] / right.size
    lines = [
        f"{name}: {right.size} templates, {hit.mean():.1%} right (constant: {most:.1%})",
        f"  {told.mean():.1%} labelled, of them {hit[told].mean():.1%} right",
        f"  calibration error {calibration_error(sure, hit):.3f}",
        f"  {'software':<16}{'templates':>10}{'right':>8}{'labelled':>10}{'right':>8}",
    ]
    software = np.array([one.software for one in examples])
    for one in np.unique(software):
        mine = software == one
        part = hit[mine & told].mean() if (mine & told).any() else float("nan")
        lines.append(
            f"  {one:<16}{mine.sum():>10}{hit[mine].mean():>8.1%}{told[mine].mean():>10.1%}{part:>8.1%}"
        )
    return lines + confusions(right[told], guess[told])


def confusions(right: np.ndarray, guess: np.ndarray) -> list[str]:
    """Every intent labelled as another, most frequent first; an intent not named was never."""
    names, wrong = list(INTENTS), right != guess
    pairs = Counter(zip(right[wrong].tolist(), guess[wrong].tolist(), strict=True))
    return [f"  {names[a]} taken for {names[b]}: {count}" for (a, b), count in pairs.most_common()]


def calibration_error(sure: np.ndarray, hit: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error (Guo et al. 2017) over `bins` of equal width."""
    place = np.minimum((sure * bins).astype(int), bins - 1)
    gaps = [abs(sure[place == one].sum() - hit[place == one].sum()) for one in range(bins)]
    return float(sum(gaps) / sure.size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--aside", action="store_true", help="no refitting")
    asked = parser.parse_args()
    if not asked.aside:
        examples = labelled.read()
        print("\n".join(report("examples, software left out", examples, left_out(examples))))
    for name, folder in (("calibrating", labelled.CALIBRATING), ("aside", ASIDE)):
        some = labelled.read(folder)
        print("\n".join(report(name, some, shipped(some))))


if __name__ == "__main__":
    main()
