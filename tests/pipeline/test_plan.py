"""Promise 1: content decides, position never does."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.corpus import EXAMPLES, GIVEN
from pipeline.languages import ENGLISH
from pipeline.mix import LanguagesConfig
from pipeline.plan import language_weights, overview
from pipeline.plan import plan_languages as plan_table
from pipeline.sources.config import JsonlSource

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
    assert plan_languages([f"s:{i}" for i in range(50)], LanguagesConfig(per_example="all")).equals(table)


def test_english_is_kept_for_its_share_and_no_examples_give_an_empty_plan():
    examples = [f"s:{i}" for i in range(4000)]
    table = plan_languages(examples, LanguagesConfig(english=0.25))
    assert abs(Counter(table["language"].to_pylist())[ENGLISH] - 1000) < 150
    assert plan_languages([], LanguagesConfig()).num_rows == 0


SOURCES = [
    JsonlSource(name="a", path="a.jsonl"),
    JsonlSource(name="half", path="b.jsonl", weight=0.5),
    JsonlSource(name="double", path="c.jsonl", weight=2.0),
    JsonlSource(name="english", path="d.jsonl", languages="english"),
    JsonlSource(name="even", path="e.jsonl", languages={"shares": "uniform", "per_example": 2}),
]


def of_sources(count, group=""):
    rows = [
        {"id": f"{s.name}:{i}", "source": s.name, "group": group and f"{s.name}:{i // 2}"}
        for s in SOURCES
        for i in range(count)
    ]
    return pa.Table.from_pylist(rows, schema=EXAMPLES)


def test_a_source_has_its_own_weight_shares_and_english():
    examples, config = of_sources(3000), LanguagesConfig(include=SOME)
    plan = plan_table(examples, config, SOURCES)
    table = overview(examples, plan, config, SOURCES)
    texts = {name: counts.total() for name, counts in table.by_source.items()}
    assert texts["a"] == 3000 and texts["double"] == texts["even"] == 6000 and texts["english"] == 3000
    assert abs(texts["half"] - 1500) < 150 and table.used["half"] == texts["half"]
    assert set(table.by_source["english"]) == {ENGLISH}
    even = table.by_source["even"]
    assert max(even.values()) < 1.2 * min(even.values()) and max(table.by_source["a"].values()) > 5 * min(
        table.by_source["a"].values()
    )


def test_english_instead_of_translation_is_its_share_of_all_texts():
    config = LanguagesConfig(include=SOME, english=0.4, english_is="instead")
    counts = Counter(plan_languages([f"s:{i}" for i in range(5000)], config)["language"].to_pylist())
    assert counts.total() == 5000 and abs(counts[ENGLISH] - 2000) < 200


@settings(deadline=None)
@given(ids, ids, st.integers(1, 3), st.integers(1, 4), st.integers(0, 20))
def test_a_plan_that_is_extended_never_changes(old, new, before, after, floor):
    """Also its floors: without the earlier plan, new examples could take the place of old ones there."""
    config = LanguagesConfig(include=SOME, per_example=before, floor=floor, english=0.5)
    plan = plan_languages(old, config)
    assert plan_languages(old, config, existing=plan).equals(plan)
    wider = config.model_copy(update={"per_example": after, "floor": floor + 2})
    grown = sorted({*old, *new})
    longer = plan_languages(grown, wider, existing=plan)
    assert {tuple(r.values()) for r in plan.to_pylist()} <= {tuple(r.values()) for r in longer.to_pylist()}
    assert len(pairs(longer)) == longer.num_rows
    counts = Counter(longer["language"].to_pylist())
    assert all(counts[code] >= min(floor + 2, len(grown)) for code in config.targets)
    assert plan_languages(grown, wider, existing=longer).equals(longer)


def test_extending_with_another_mix_of_languages_moves_no_old_example():
    old, new = [f"s:{i}" for i in range(300)], [f"s:{i}" for i in range(600)]
    plan = plan_languages(old, LanguagesConfig(include=SOME))
    longer = plan_languages(new, LanguagesConfig(include=[*SOME, "ru"], shares="uniform"), existing=plan)
    assert {p for p in pairs(longer) if p[0] in set(old)} == pairs(plan)
    assert "rus_Cyrl" in longer["language"].to_pylist()


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.integers(0, 30))
def test_examples_of_a_group_share_their_languages_and_a_floor_splits_one_pair_at_most(count, per_example, floor):
    config = LanguagesConfig(include=SOME, per_example=per_example, floor=floor)
    examples = of_sources(2 * count, group="yes")
    plan = plan_table(examples.filter(pc.equal(examples["source"], "a")), config)
    by_share = Counter((int(e.split(":")[1]) // 2, language) for e, language in pairs(plan, "share"))
    assert set(by_share.values()) == {2}
    for language in config.targets:
        halves = Counter(int(e.split(":")[1]) % 2 for e, x in pairs(plan) if x == language)
        assert abs(halves[0] - halves[1]) <= 1


def test_examples_with_given_names_go_only_where_there_is_one():
    names = {"k": ["deu_Latn", "swh_Latn"], "l": ["deu_Latn"], "none": []}
    rows = [{"id": f"s:{i}", "source": "s", "group": "", "given": list(names)[i % 3]} for i in range(900)]
    rows += [{"id": f"p:{i}-{k}", "source": "s", "group": f"p:{i}", "given": k} for i in range(50) for k in ("k", "l")]
    examples = pa.Table.from_pylist(rows, schema=EXAMPLES)
    given_names = pa.Table.from_pylist(
        [{"key": k, "language": x, "text": "x"} for k, v in names.items() for x in v], schema=GIVEN
    )
    plan = plan_table(examples, LanguagesConfig(include=SOME, floor=380), given=given_names)
    key = {r["id"]: r["given"] for r in rows}
    found = {(key[e], language) for e, language in pairs(plan) if e.startswith("s:")}
    assert found == {("k", "deu_Latn"), ("k", "swh_Latn"), ("l", "deu_Latn")}
    assert {language for e, language in pairs(plan) if e.startswith("p:")} == {"deu_Latn"}  # what both of a pair have
    assert (
        Counter(plan["language"].to_pylist())["swh_Latn"] == 300
    )  # the floor can't be met: no more examples have a name


def test_floors_of_single_languages():
    config = LanguagesConfig(include=SOME, floor=3, floors={"yo": 40})
    counts = Counter(plan_languages([f"s:{i}" for i in range(100)], config)["language"].to_pylist())
    assert counts["yor_Latn"] == 40 and min(counts.values()) >= 3


def test_the_table_of_sources_warns_where_a_language_gets_too_little():
    examples, config = of_sources(4), LanguagesConfig(include=SOME, warn_below=10)
    lines = list(overview(examples, plan_table(examples, config, SOURCES), config, SOURCES).lines())
    assert len(lines) > 6 and lines[1].startswith("a ")
    assert any("fewer than 10 texts" in x and "Yoruba" in x for x in lines)
    assert any("the source a gives nothing to" in x for x in lines)
    assert not any("the source english gives" in x for x in lines)
    grid = list(overview(examples, plan_table(examples, config, SOURCES), config, SOURCES).grid())
    assert len(grid) == 1 + 6 and grid[-1].startswith(ENGLISH) and all("double" in grid[0] for _ in grid)
    missing = [*SOURCES, JsonlSource(name="empty", path="f.jsonl")]
    assert any(
        "empty gave no usable" in x for x in overview(examples, plan_table(examples, config), config, missing).warnings
    )
