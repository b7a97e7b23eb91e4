"""The engine turned round."""

import pyarrow as pa
import pytest

from pipeline import files
from pipeline.back_translation import IntoEnglish
from pipeline.corpus import TRANSLATIONS
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.memory import Memory, export, sentence_key
from pipeline.mix import TranslationConfig
from pipeline.retry import FIRST, Rung
from pipeline.translate import load_engine


@pytest.fixture(scope="module")
def engine():
    from tests.conftest import DEMO_MODEL

    return load_engine(TranslationConfig(model=str(DEMO_MODEL)), threads=1)


def test_the_source_language_is_the_one_that_is_named_and_the_target_is_english(engine):
    """Against CTranslate2 called by hand, with the tokens that NLLB wants."""
    back = IntoEnglish(engine).translate(["k"], ["Hund"], "deu_Latn")
    assert back.schema.equals(TRANSLATIONS) and back["source"].to_pylist() == ["Hund"]
    tokens = engine.tokenizer(["Hund"]).encodings[0].tokens
    by_hand = engine.translator.translate_batch(
        [["deu_Latn", *tokens[1:]]], target_prefix=[[ENGLISH]], beam_size=1, max_decoding_length=64
    )[0].hypotheses[0]
    ids = engine.tokenizer.convert_tokens_to_ids([t for t in by_hand if t not in (ENGLISH, engine.tokenizer.eos_token)])
    assert back["text"].to_pylist() == [engine.tokenizer.decode(ids).strip()]
    assert tokens[0] == ENGLISH
    other = engine.decode(["Hund"], [ENGLISH], Rung(FIRST, 1))[0]
    assert other.log_probability != pytest.approx(back["log_probability"][0].as_py(), abs=1e-3)


def test_it_has_a_key_and_a_memory_of_its_own(engine):
    assert IntoEnglish(engine).key != engine.key
    beam = load_engine(TranslationConfig(model=str(engine.folder), beam_size=4), threads=1)
    assert IntoEnglish(beam).key != IntoEnglish(engine).key


def test_an_exported_memory_says_from_which_language_an_entry_is(engine, tmp_path):
    back = IntoEnglish(engine)
    entry = {
        "source": "Hund",
        "text": "dog",
        "status": "translated",
        "log_probability": -1.0,
        "unknown_tokens": 0,
        "rung": FIRST,
    }
    entry["key"] = sentence_key(back.key, "deu_Latn", "Hund")
    Memory(tmp_path / "m", back.key, back.settings).add("deu_Latn", pa.Table.from_pylist([entry], schema=TRANSLATIONS))
    assert export(tmp_path / "m", tmp_path / "m.jsonl", None) == 1
    row = files.read_json(tmp_path / "m.jsonl")
    assert (row["source_language"], row["language"], row["source"], row["text"]) == ("deu_Latn", ENGLISH, "Hund", "dog")
    export(tmp_path / "m", tmp_path / "m.tmx", None)
    tmx = (tmp_path / "m.tmx").read_text(encoding="utf-8")
    first, second = (
        f'xml:lang="{BY_NLLB[code].tag}"><seg>{text}' for code, text in (("deu_Latn", "Hund"), (ENGLISH, "dog"))
    )
    assert first in tmx and second in tmx
