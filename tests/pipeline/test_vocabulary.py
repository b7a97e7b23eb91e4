"""Vocabulary maps of the embedded model: what they hold, that decoding obeys them, and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus import REQUESTS
from pipeline.estimate import estimate
from pipeline.mix import TranslationConfig
from pipeline.translate import load_engine
from pipeline.vocabulary import VocabularyError, VocabularyMaps, learn, main, read_maps, vocabulary_fingerprint

NAMES = ["red apple", "dog face", "lion", "four leaf clover", "fire engine"]


@pytest.fixture(scope="module")
def plain(demo_model):
    return load_engine(TranslationConfig(model=str(demo_model)), threads=1)


@pytest.fixture
def with_maps(demo_model, tmp_path, monkeypatch):
    """A function: maps -> the engine that uses them."""
    monkeypatch.setenv("POLYALIGN_CACHE", str(tmp_path / "cache"))

    def load(maps):
        maps.write(tmp_path / "maps.json")
        config = TranslationConfig(model=str(demo_model), vocabulary_maps=tmp_path / "maps.json", retry=False)
        return load_engine(config, threads=1)

    yield load
    load_engine.cache_clear()


def translate(engine, texts, languages):
    return engine.translate([str(i) for i in range(len(texts))], texts, languages)["text"].to_pylist()


def pieces(engine, texts):
    encodings = engine.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    return {token for e in encodings for token in e.tokens}


def test_a_map_has_the_tokens_of_the_text_the_alphabet_and_what_is_no_letter(plain):
    texts = [("deu_Latn", "roter Apfel"), ("kat_Geor", "ლომი"), ("deu_Latn", "Löwe")]
    maps = learn(texts, plain.tokenizer)
    german, georgian = (set(maps.tokens[x]) for x in ("deu_Latn", "kat_Geor"))
    assert maps.learnt_from == {"deu_Latn": 2, "kat_Geor": 1}
    assert pieces(plain, ["roter Apfel", "Löwe"]) <= german
    assert {"a", "Z", "7", "."} <= german & georgian
    vocabulary = plain.tokenizer.get_vocab()
    assert {
        t for t in vocabulary if t.strip("▁") and set(t.strip("▁")) <= set("აბგდევზთიკლმნ")
    } <= georgian  # a small script, whole
    assert not pieces(plain, ["собака"]) & german
    assert len(german) < len(vocabulary) / 4
    assert not {"deu_Latn", "</s>"} & german


def test_rare_tokens_are_left_out_where_that_is_asked_for(plain):
    texts = [("deu_Latn", "roter Apfel")] * 3 + [("deu_Latn", "Löwe")]
    rare = pieces(plain, ["Löwe"]) - pieces(plain, ["roter Apfel"])
    assert rare <= set(learn(texts, plain.tokenizer).tokens["deu_Latn"])
    assert not {t for t in rare if len(t.strip("▁")) > 1} & set(learn(texts, plain.tokenizer, 2).tokens["deu_Latn"])


def test_decoding_chooses_among_the_tokens_of_each_language_alone(plain, with_maps):
    free = {x: translate(plain, NAMES, x) for x in ("deu_Latn", "rus_Cyrl")}
    allowed = {x: tuple(sorted(pieces(plain, free[x][:2]))) for x in free}
    engine = with_maps(VocabularyMaps(vocabulary_fingerprint(plain.tokenizer), allowed, {}))
    languages = ["deu_Latn", "rus_Cyrl"] * 4
    found = translate(engine, [NAMES[0], NAMES[0], NAMES[1], NAMES[1], *(["lion", "lion"] * 2)], languages)
    assert found[:4] == [free["deu_Latn"][0], free["rus_Cyrl"][0], free["deu_Latn"][1], free["rus_Cyrl"][1]]
    for language, text in zip(languages, found, strict=True):
        assert pieces(plain, text.split()) <= {*allowed[language], "▁"}
    assert found[4] != free["deu_Latn"][2]
    assert translate(engine, ["lion"], "fra_Latn") == translate(plain, ["lion"], "fra_Latn")  # no map, whole vocabulary


def test_maps_of_the_whole_vocabulary_change_nothing(plain, with_maps):
    every = tuple(t for t in plain.tokenizer.get_vocab() if " " not in t)
    maps = VocabularyMaps(vocabulary_fingerprint(plain.tokenizer), {"deu_Latn": every, "tha_Thai": every}, {})
    for language in maps.tokens:
        assert translate(with_maps(maps), NAMES, language) == translate(plain, NAMES, language)


def test_the_key_of_the_memory_knows_the_maps(plain, with_maps):
    some = learn([("deu_Latn", "Apfel")], plain.tokenizer)
    key = with_maps(some).key
    load_engine.cache_clear()
    assert len({key, with_maps(learn([("deu_Latn", "Hund")], plain.tokenizer)).key, plain.key}) == 3


def test_the_estimate_goes_by_the_speed_with_maps_and_loads_no_language_for_its_probe(plain, with_maps):
    engine = with_maps(learn([("deu_Latn", "Apfel"), ("rus_Cyrl", "лев")], plain.tokenizer))
    rows = [{"key": f"{x}{i}", "language": x, "text": t} for x in ("deu_Latn", "rus_Cyrl") for i, t in enumerate(NAMES)]
    cost = estimate(engine, pa.Table.from_pylist([*rows, {**rows[0], "key": "z"}], schema=REQUESTS))
    assert cost.seconds_per_token > 0 and engine._mapped.language == "deu_Latn"


def test_missing_damaged_and_foreign_maps_are_refused(plain, tmp_path, demo_model):
    path = tmp_path / "maps.json"
    with pytest.raises(VocabularyError, match=r"can't be read.*pipeline\.vocabulary learn"):
        load_engine(TranslationConfig(model=str(demo_model), vocabulary_maps=path))
    path.write_text("[]")
    with pytest.raises(VocabularyError, match="is no file of vocabulary maps"):
        read_maps(path, plain.tokenizer)
    learn([("deu_Latn", "Apfel")], plain.tokenizer).write(path)
    read_maps(path, plain.tokenizer)
    path.write_text(json.dumps({**json.loads(path.read_text()), "vocabulary": "0"}))
    with pytest.raises(VocabularyError, match="another model's vocabulary"):
        read_maps(path, plain.tokenizer)


def test_the_commands_learn_and_compare(demo_model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("POLYALIGN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "de.txt").write_text("roter Apfel\nLöwe\n", encoding="utf-8")
    rows = [
        {"english": "lion", "language": "deu_Latn", "text": "Löwe"},
        {"english": "butterfly", "language": "deu_Latn", "text": "Schmetterling"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    maps, model = str(tmp_path / "maps.json"), ["--model", str(demo_model)]
    assert main(["learn", maps, *model, "--text", str(tmp_path / "text")]) == 0
    assert main(["compare", maps, *model, "--pairs", str(tmp_path / "pairs.parquet")]) == 0
    (row,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("deu_Latn   German")]
    assert "50.0%" in row  # Löwe can be written, Schmetterling can not


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "must be a .parquet or .jsonl table"),
        ("a.jsonl", '{"language": "deu_Latn"}\n', "line 1 must have the texts language, text"),
        ("a.jsonl", '{"language": "tlh_Latn", "text": "x"}\n', "no language 'tlh_Latn'"),
        ("a.jsonl", "", "no text to learn from"),
        ("none.jsonl", None, "can't be read"),
    ],
)
def test_text_that_can_not_be_learnt_from_is_named(demo_model, tmp_path, capsys, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    arguments = ["learn", str(tmp_path / "m.json"), "--model", str(demo_model), "--text", str(tmp_path / name)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
