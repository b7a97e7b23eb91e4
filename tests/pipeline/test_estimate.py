import pyarrow as pa
import pytest

from pipeline.corpus import REQUESTS
from pipeline.estimate import estimate
from pipeline.memory import sentence_key
from pipeline.mix import TranslationConfig
from pipeline.translate import load_engine


def requests(*pairs):
    rows = [{"key": sentence_key("e", language, text), "language": language, "text": text} for language, text in pairs]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


@pytest.fixture(scope="module")
def engine(demo_model):
    return load_engine(TranslationConfig(model=str(demo_model), max_source_tokens=30), threads=1)


def test_tokens_are_counted_and_what_is_too_long_is_told(engine):
    few = requests(("deu_Latn", "lion"), ("deu_Latn", "red apple"), ("zho_Hans", "lion"), ("zho_Hans", "word " * 100))
    cost = estimate(engine, few)
    lengths = [len(engine.tokenizer(t).input_ids) for t in ("lion", "red apple", "word " * 100)]
    assert cost.tokens == {"deu_Latn": sum(lengths[:2]), "zho_Hans": lengths[0] + lengths[2]}
    assert (cost.probed, cost.too_long) == (4, 1)
    assert cost.seconds_per_token > 0
    assert cost.seconds == pytest.approx(cost.seconds_of("deu_Latn") + cost.seconds_of("zho_Hans"))


def test_the_probe_takes_some_of_each_language(engine):
    pairs = [(x, f"lion number {i}") for x in ("deu_Latn", "rus_Cyrl", "tha_Thai") for i in range(40)]
    cost = estimate(engine, requests(*pairs), probe_sentences=30)
    assert cost.probed == 30 and set(cost.unknown_share) == {"deu_Latn", "rus_Cyrl", "tha_Thai"}


def test_nothing_to_translate_costs_nothing(engine):
    cost = estimate(engine, REQUESTS.empty_table())
    assert cost.seconds == 0 and cost.probed == 0
