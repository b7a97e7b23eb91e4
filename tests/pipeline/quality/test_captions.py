"""How the shipped thresholds hold on captions, of which nothing was learnt: benchmarks/captions.json."""

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.faults import HABITS

from .conftest import candidate

WRITTEN = json.loads((Path(__file__).resolve().parents[3] / "benchmarks" / "captions.json").read_text(encoding="utf-8"))
PAIRS = [
    (e, code, t) for code, texts in WRITTEN["captions"].items() for e, t in zip(WRITTEN["english"], texts, strict=True)
]


def rejected(judge, pairs):
    """(row of `pairs`, reason) of each that is rejected."""
    reasons = judge(*(candidate(code, [("caption", s, t)], name=str(i)) for i, (s, code, t) in enumerate(pairs)))
    return [(pairs[int(name.split("@")[0])], reason) for name, reason in reasons.items() if reason]


@pytest.mark.parametrize("habit", HABITS)
def test_of_good_captions_hardly_one_is_lost(judge, habit):
    changed = [(HABITS[habit](s, t), code) for s, code, t in PAIRS]
    lost = rejected(judge, [(s, code, t) for (s, t), code in changed])
    assert len(lost) <= 0.015 * len(PAIRS), lost
    assert max(Counter(pair[1] for pair, _ in lost).values(), default=0) <= 1, lost


def test_no_english_copy_passes(judge):
    assert len(rejected(judge, [(s, code, s) for s, code, _ in PAIRS])) == len(PAIRS)
