"""The engine on the embedded model."""

import shutil

import pytest

from pipeline.corpus import TRANSLATIONS
from pipeline.mix import TranslationConfig
from pipeline.quality.script import script_share
from pipeline.retry import SPLIT
from pipeline.translate import ModelError, choose_compute_type, find_model, load_engine, max_target_tokens

NAMES = ["dog face", "red apple", "rocket", "fire engine", "butterfly", "four leaf clover", "lion"]


@pytest.fixture(scope="session")
def engine(demo_model):
    return load_engine(TranslationConfig(model=str(demo_model)), threads=1)


def translate(engine, texts, language):
    table = engine.translate([str(i) for i in range(len(texts))], texts, language)
    assert table.schema.equals(TRANSLATIONS)
    return table["text"].to_pylist()


@pytest.mark.parametrize(
    "language",
    ["deu_Latn", "rus_Cyrl", "arb_Arab", "hin_Deva", "zho_Hans", "tha_Thai", "kor_Hang", "kat_Geor", "amh_Ethi"],
)
def test_the_embedded_model_writes_the_right_script(engine, language):
    texts = translate(engine, NAMES, language)
    assert all(texts)
    assert min(script_share(t, language) for t in texts) > 0.9


def test_the_order_and_company_of_sentences_change_nothing(engine):
    together = dict(zip(NAMES, translate(engine, NAMES, "fra_Latn"), strict=True))
    backwards = dict(zip(NAMES[::-1], translate(engine, NAMES[::-1], "fra_Latn"), strict=True))
    alone = {name: translate(engine, [name], "fra_Latn")[0] for name in NAMES}
    assert together == backwards == alone


def test_a_sentence_that_is_too_long_is_translated_in_parts_and_says_so(demo_model):
    engine = load_engine(TranslationConfig(model=str(demo_model), max_source_tokens=20), threads=1)
    long = "red apple, " + "dog face " * 20 + "lion"
    table = engine.translate(["a", "b"], [long, "lion"], "deu_Latn")
    assert table["status"].to_pylist() == ["translated", "translated"]
    assert table["rung"].to_pylist() == [SPLIT, "first"]
    whole = load_engine(TranslationConfig(model=str(demo_model), max_source_tokens=20, retry=False), threads=1)
    apple, *_, lion = (whole.translate(["x"], [p], "deu_Latn")["text"][0].as_py() for p in whole._parts(long)[::2])
    assert table["text"][0].as_py().startswith(apple) and table["text"][0].as_py().endswith(lion)


def test_what_has_no_shorter_parts_is_reported_and_not_cut(engine):
    one_character = "e" + "\u0301" * 2000
    table = engine.translate(["a", "b"], [one_character, "lion"], "deu_Latn")
    assert table["status"].to_pylist() == ["too_long", "translated"]
    assert table["text"][0].as_py() == ""


def test_nothing_in_nothing_out(engine):
    assert engine.translate([], [], "deu_Latn").num_rows == 0


def test_the_length_limit_is_a_function_of_the_length_class_alone():
    assert max_target_tokens(3) == max_target_tokens(16) < max_target_tokens(17)


def test_the_key_names_the_model_and_the_settings(engine, demo_model):
    beam = load_engine(TranslationConfig(model=str(demo_model), beam_size=4))
    exact = load_engine(TranslationConfig(model=str(demo_model), compute_type="float32"))
    other_threads = load_engine(TranslationConfig(model=str(demo_model), block_sentences=7), threads=2)
    assert len({engine.key, beam.key, exact.key}) == 3
    assert other_threads.key == engine.key


def test_a_language_that_the_model_lacks_stops_before_any_work(engine):
    engine.check_languages(["deu_Latn"])
    with pytest.raises(ModelError, match="tlh_Latn"):
        engine.check_languages(["deu_Latn", "tlh_Latn"])


def test_a_hugging_face_folder_is_converted_once_and_translates_alike(demo_model, engine, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYALIGN_CACHE", str(tmp_path))
    folder = demo_model.parent / "hf"
    converted = find_model(str(folder), "int8")
    assert converted.is_relative_to(tmp_path)
    stamp = (converted / "model.bin").stat().st_mtime_ns
    assert find_model(str(folder), "int8") == converted
    assert (converted / "model.bin").stat().st_mtime_ns == stamp
    again = load_engine(TranslationConfig(model=str(folder)), threads=1)
    assert translate(again, NAMES, "spa_Latn") == translate(engine, NAMES, "spa_Latn")


def test_wrong_models_are_refused_with_the_reason(demo_model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="no tokenizer"):
        find_model(str(tmp_path), "int8")
    shutil.copy(demo_model / "tokenizer.json", tmp_path)
    with pytest.raises(ModelError, match=r"neither model\.bin"):
        find_model(str(tmp_path), "int8")
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(ModelError, match="is a t5 model"):
        find_model(str(tmp_path), "int8")
    with pytest.raises(ModelError, match="no folder some/model"):
        find_model("some/model", "int8")
    with pytest.raises(ModelError, match="can't compute in"):
        choose_compute_type("int3", "cpu")
