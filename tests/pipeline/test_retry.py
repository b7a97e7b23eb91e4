"""The ladder with a decoder whose faults are planted."""

import pytest

from pipeline.mix import TranslationConfig
from pipeline.retry import CLAUSES, FIRST, GAVE_UP, Output, clauses, climb, faults
from pipeline.translate import load_engine

LOOP = Output("ja ja ja ja ja ja ja ja", "translated", -1.0, 0)
GOOD = Output("Ein Hund läuft.", "translated", -0.5, 0)


@pytest.mark.parametrize(
    ("source", "text", "language", "expected"),
    [
        ("A dog runs.", "Ein Hund läuft.", "deu_Latn", None),
        ("A dog runs.", "Собака бежит.", "rus_Cyrl", None),
        ("A dog runs.", "كلب يجري.", "arb_Arab", None),
        ("A dog runs.", "一只狗在跑。", "zho_Hans", None),
        ("Pizza", "Pizza", "deu_Latn", None),
        ("A dog runs.", "A dog runs.", "deu_Latn", "source_copy"),
        ("A dog runs.", "A dog runs now.", "rus_Cyrl", "source_copy"),
        ("A dog runs.", "Ein Hund läuft.", "rus_Cyrl", "wrong_script"),
        ("A dog runs.", "собака собака собака собака собака", "rus_Cyrl", "repetition"),
        ("A dog runs.", " ", "deu_Latn", "empty"),
        (
            "A dog runs over the green grass.",
            "Un chien court sur l'herbe verte du jardin.",
            "deu_Latn",
            "wrong_language",
        ),
        (
            "A dog runs over the green grass.",
            "En hund løber over det grønne græs.",
            "nob_Latn",
            None,
        ),  # Danish: of one group
        ("A dog runs over the green grass.", "A brown dog is running on the grass now.", "deu_Latn", "wrong_language"),
        ("A dog runs.", "Le chien court.", "deu_Latn", None),  # too short to tell
    ],
)
def test_visible_faults_are_seen_and_good_text_is_left_alone(source, text, language, expected):
    outputs = [Output(text, status, -1.0, 0) for status in ("translated", "unfinished")]
    assert faults([source] * 2, outputs, [language] * 2) == [expected, "unfinished"]


def run(sentence, answers):
    """Climb with a decoder that gives LOOP on the rungs that are not in `answers`."""
    calls = []

    def decode(sentences, languages, rung):
        calls.append((rung.name, list(sentences)))
        return [answers.get((rung.name, s), answers.get(rung.name, LOOP)) for s in sentences]

    (result,) = climb([sentence], ["deu_Latn"], [answers.get(FIRST, LOOP)], decode)
    return result, calls


def test_a_good_output_is_never_decoded_again():
    assert run("A dog runs.", {FIRST: GOOD}) == ((GOOD, FIRST), [])


@pytest.mark.parametrize("rung", ["beam", "no_repeat"])
def test_the_first_rung_without_a_fault_is_taken_and_recorded(rung):
    (output, name), calls = run("A dog runs.", {rung: GOOD})
    assert (output, name) == (GOOD, rung)
    assert [c[0] for c in calls] == ["beam", "no_repeat"][: ["beam", "no_repeat"].index(rung) + 1]


def test_clauses_are_the_last_try_and_keep_their_separators():
    sentence = "A dog runs, and a cat sleeps: all is well"
    parts = {
        "A dog runs,": "Ein Hund läuft,",
        "and a cat sleeps:": "und eine Katze schläft:",
        "all is well": "alles ist gut",
    }
    answers = {("no_repeat", k): Output(v, "translated", -1.0, 0) for k, v in parts.items()}
    (output, name), _ = run(sentence, answers)
    assert (output.text, name) == ("Ein Hund läuft, und eine Katze schläft: alles ist gut", CLAUSES)


def test_what_no_rung_mends_keeps_its_first_output():
    assert run("A dog runs.", {})[0] == (LOOP, GAVE_UP)
    assert run("A dog runs, and a cat sleeps.", {})[0] == (LOOP, GAVE_UP)


def test_a_sentence_of_one_clause_has_no_parts():
    assert clauses("A dog runs.") is None
    assert clauses("Yes, it runs fast.") is None
    assert "".join(clauses("A dog runs, and so on; well then, it is")) == "A dog runs, and so on; well then, it is"


def test_the_engine_records_the_rung_and_its_key_knows_of_the_ladder(demo_model):
    plain = load_engine(TranslationConfig(model=str(demo_model), retry=False), threads=1)
    ladder = load_engine(TranslationConfig(model=str(demo_model)), threads=1)
    assert plain.key != ladder.key
    texts = [
        "dog face",
        "It was a dark and stormy night; the rain fell in torrents, except at occasional intervals.",
    ] * 3
    rungs = [e.translate([str(i) for i in range(6)], texts, "fra_Latn")["rung"].to_pylist() for e in (plain, ladder)]
    assert set(rungs[0]) == {FIRST}
    assert rungs[1][0] == FIRST and rungs[1] == rungs[1][:2] * 3
