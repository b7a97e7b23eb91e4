"""Promise 1: content decides, position never does."""

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.languages import ENGLISH
from pipeline.mix import LanguagesConfig
from pipeline.plan import language_weights
from pipeline.plan import plan_languages as plan_table

ids = st.lists(st.text("abcdef:-0123", min_size=1, max_size=8), unique=True, min_size=1, max_size=30)
SOME = ["de", "sw", "yo", "zh", "ar"]


def plan_languages(ids, config, **more):
    return plan_table(pa.table({"id": pa.array(ids, pa.string())}), config, **more)


def pairs(table, by=None):
    return {(r["example"], r["language"]) for r in table.to_pylist() if by is None or r["assigned_by"] == by}


@settings(deadline=None)
@given(ids, ids, st.integers(1, 5))
def test_adding_examples_moves_no_language(old, new, per_example):
    config = LanguagesConfig(include=SOME, per_example=per_example, english=0.5)
    assert pairs(plan_languages(old, config)) <= pairs(plan_languages(sorted({*old, *new}), config))


@settings(deadline=None)
@given(ids, st.randoms())
def test_the_order_of_the_examples_does_not_matter(examples, random):
    config = LanguagesConfig(include=SOME, per_example=2, floor=3, english=0.5)
    shuffled = list(examples)
    random.shuffle(shuffled)
    assert plan_languages(examples, config).equals(plan_languages(shuffled, config))


@settings(deadline=None)
@given(ids, st.integers(0, 40))
def test_floors_are_met_exactly_by_extra_assignments_on_top(examples, floor):
    plain = plan_languages(examples, LanguagesConfig(include=SOME, per_example=1))
    raised = plan_languages(examples, LanguagesConfig(include=SOME, per_example=1, floor=floor))
    assert pairs(raised, "share") == pairs(plain)
    before, after = (Counter(t["language"].to_pylist()) for t in (plain, raised))
    for language in LanguagesConfig(include=SOME).targets:
        assert after[language] == max(before[language], min(floor, len(examples)))


def test_adding_a_language_moves_only_the_examples_that_it_wins():
    examples = [f"s:{i}" for i in range(2000)]
    few = pairs(plan_languages(examples, LanguagesConfig(include=SOME, shares="uniform")))
    more = pairs(plan_languages(examples, LanguagesConfig(include=[*SOME, "ru"], shares="uniform")))
    assert {language for _, language in more - few} == {"rus_Cyrl"}


def test_languages_get_their_shares():
    config = LanguagesConfig(shares="mt5")
    examples = [f"s:{i}" for i in range(40000)]
    counts = Counter(plan_languages(examples, config)["language"].to_pylist())
    expected = language_weights(config) * len(examples)
    found = np.array([counts[x] for x in config.targets])
    assert found.min() > 0  # the paper's rounding left 19 languages without an example
    assert (np.abs(found - expected) < 5 * np.sqrt(expected)).all()


def test_exponent_zero_is_uniform_and_per_example_counts_languages():
    weights = language_weights(LanguagesConfig(exponent=0.0))
    assert np.allclose(weights, 1 / 95)
    table = plan_languages([f"s:{i}" for i in range(50)], LanguagesConfig(per_example=95))
    assert table.num_rows == 50 * 95
    assert Counter(table["example"].to_pylist()).most_common()[-1][1] == 95


def test_english_is_kept_for_its_share_and_no_examples_give_an_empty_plan():
    examples = [f"s:{i}" for i in range(4000)]
    table = plan_languages(examples, LanguagesConfig(english=0.25))
    assert abs(Counter(table["language"].to_pylist())[ENGLISH] - 1000) < 150
    assert plan_languages([], LanguagesConfig()).num_rows == 0
