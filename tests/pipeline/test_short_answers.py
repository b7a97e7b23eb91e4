"""Short answers: which are checked, what is asked for, and which way each goes."""

import pyarrow as pa
import pytest

from pipeline.corpus import TRANSLATIONS
from pipeline.glossary import load_glossary
from pipeline.memory import sentence_key
from pipeline.render import read_templates, render
from pipeline.requests import Segmenter, answers_to_check, translated_fields, wanted_sentences
from pipeline.retry import Output
from pipeline.short_answers import Asked, ShortAnswers, join_question, split_answer, way_of

QUESTION, ANSWER = "What fruit is this?", "orange"
JOINT = "What fruit is this? Orange."
CHECKED = ShortAnswers("joint", True, load_glossary(True))


def row(answer=ANSWER, question=QUESTION, task="vqa", more=()):
    fields = [{"role": "question", "text": question}, {"role": "answer", "text": answer}, *more]
    return {"id": "s:a", "source": "s", "task": task, "fields": fields}


def table(language, texts, **other):
    rows = [
        {"key": sentence_key("e", language, s), "source": s, "text": t, "status": "translated", "log_probability": -1.0}
        | {"unknown_tokens": 0, "rung": "first"}
        | other.get(s, {})
        for s, t in texts.items()
    ]
    return pa.Table.from_pylist(rows, schema=TRANSLATIONS)


def settled(language, texts, back=None, rule=CHECKED, **options):
    """The answer field of one example, as it comes out of the translations `texts`."""
    back = None if back is None else table(language, back)
    found = translated_fields(language, [row(**options)], table(language, texts), Segmenter(), rule, back)
    return found.to_pylist()[0]["fields"][1]


@pytest.mark.parametrize(
    ("language", "together", "alone"),
    [
        ("deu_Latn", "Welche Frucht ist das? Orange.", "orange"),
        ("rus_Cyrl", "Что это за фрукт? Апельсин.", "апельсин"),
        ("ell_Grek", "Τι φρούτο είναι αυτό; Πορτοκάλι.", "πορτοκάλι"),
        ("arb_Arab", "ما هذه الفاكهة؟ برتقال.", "برتقال"),
        ("zho_Hans", "这是什么水果？橙子。", "橙子"),
        ("jpn_Jpan", "この果物は何ですか？「オレンジ」。", "オレンジ"),
        ("hin_Deva", "यह कौन सा फल है? संतरा।", "संतरा"),
        ("hye_Armn", "Ի՞նչ միրգ է սա: Նարինջ:", "նարինջ"),
        ("amh_Ethi", "ይህ ምን ፍሬ ነው፧ ብርቱካን።", "ብርቱካን"),
        ("tha_Thai", "นี่คือผลไม้อะไร? ส้ม", "ส้ม"),
    ],
)
def test_agreement_is_found_in_the_language_s_own_punctuation(language, together, alone):
    field = settled(language, {ANSWER: alone, QUESTION: "?", JOINT: together})
    assert (field["text"], field["origin"]) == (alone, "agreed")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Welche Frucht ist das. Orange.", "deu_Latn"),  # no question mark
        ("Welche Frucht ist das? ", "deu_Latn"),
        ("Welche Frucht ist das?!", "deu_Latn"),
        ("Das ist; eine Orange", "deu_Latn"),  # a question mark in Greek alone
        ("Ի՞նչ միրգ է սա", "hye_Armn"),
        ("", "deu_Latn"),
    ],
)
def test_what_can_not_be_split_has_no_answer(text, language):
    assert split_answer(text, language) is None


def test_the_answer_stands_after_the_last_question_mark():
    assert split_answer("Was? Ist das hier? Ein Hund.", "deu_Latn") == "Ein Hund."


def test_question_and_answer_are_joined_as_one_written_question_and_answer():
    assert join_question("what color is it?", "light blue") == "what color is it? Light blue."
    assert join_question("Name the colour.", "red.") == "Name the colour? Red."


def test_without_agreement_the_back_translation_decides():
    texts = {ANSWER: "Apfelsine", QUESTION: "?", JOINT: "Welche Frucht ist das? Orange."}
    assert settled("deu_Latn", texts, back={"Apfelsine": "an Orange."})["origin"] == "back_translated"
    field = settled("deu_Latn", texts, back={"Apfelsine": "apple"})
    assert (field["text"], field["origin"]) == (ANSWER, "english")


def test_only_what_does_not_agree_is_translated_back_and_each_once():
    texts = {
        ANSWER: "Apfelsine",
        "pear": "Birne",
        QUESTION: "?",
        JOINT: "Frucht? Orange.",
        "What fruit is this? Pear.": "Frucht? Birne.",
    }
    rows = [row(), row(), row("pear"), row("yes"), row("12"), row("a long answer with many words")]
    wanted = answers_to_check("deu_Latn", rows, table("deu_Latn", texts), "back", Segmenter(), CHECKED)
    assert wanted.to_pylist() == [
        {"key": sentence_key("back", "deu_Latn", "Apfelsine"), "language": "deu_Latn", "text": "Apfelsine"}
    ]


def test_a_model_that_only_translates_from_english_is_not_asked_to():
    rule = ShortAnswers("joint", False)
    texts = {ANSWER: "Apfelsine", QUESTION: "?", JOINT: "Frucht? Orange."}
    assert not answers_to_check("deu_Latn", [row()], table("deu_Latn", texts), "back", Segmenter(), rule).num_rows
    assert settled("deu_Latn", texts, rule=rule)["origin"] == "english"


@pytest.mark.parametrize(
    "fault", [{"status": "unfinished"}, {"unknown_tokens": 1}, {"text": ""}, {"text": "orange"}], ids=str
)
def test_a_faulty_translation_is_not_accepted_although_it_agrees(fault):
    """In Thai, `orange` is a copy in the wrong script."""
    alone = Output(**{"text": "ส้ม", "status": "translated", "log_probability": -1.0, "unknown_tokens": 0} | fault)
    joint = Output(f"ผลไม้? {alone.text or 'ส้ม'}", "translated", -1.0, 0)
    result = CHECKED.settle("tha_Thai", Asked(ANSWER, JOINT), ANSWER, {ANSWER: alone, JOINT: joint}, {})
    assert (result.text, result.origin) == (ANSWER, "english")


def test_the_glossary_goes_first_and_asks_the_translator_for_nothing():
    wanted = wanted_sentences({"deu_Latn": [row("Yes")]}, "e", Segmenter(), CHECKED)
    assert wanted["text"].to_pylist() == [QUESTION]
    field = settled("deu_Latn", {QUESTION: "?"}, answer="Yes")
    assert field["text"] == "Ja" and way_of(field["origin"]) == "glossary" and "cldr" in field["origin"]


def test_an_answer_to_check_is_asked_for_alone_and_with_its_question():
    def texts(rule, **options):
        return set(wanted_sentences({"deu_Latn": [row(**options)]}, "e", Segmenter(), rule)["text"].to_pylist())

    assert texts(CHECKED) == {QUESTION, ANSWER, JOINT}
    assert texts(ShortAnswers("alone")) == {QUESTION, ANSWER}
    assert texts(CHECKED, answer="12") == {QUESTION}
    assert texts(CHECKED, question="Look here. What is it?") == {
        "Look here.",
        "What is it?",
        ANSWER,
        "What is it? Orange.",
    }
    assert texts(CHECKED, answer="it is an orange") == {QUESTION, "it is an orange"}


def test_switched_off_an_answer_is_translated_alone_and_says_so():
    field = settled("deu_Latn", {ANSWER: "Apfelsine", QUESTION: "?"}, rule=ShortAnswers())
    assert (field["text"], field["origin"]) == ("Apfelsine", "alone")


def test_digits_are_copied_and_longer_answers_have_no_way_of_their_own():
    assert settled("deu_Latn", {QUESTION: "?"}, answer="12")["origin"] == "copied"
    long = "it is an orange"
    field = settled("deu_Latn", {QUESTION: "?", long: "es ist eine Orange"}, answer=long)
    assert (field["text"], field["origin"]) == ("es ist eine Orange", "")


RATIONALE = {"role": "rationale", "text": "It is round."}


@pytest.mark.parametrize(
    ("task", "more", "target", "target_language"),
    [
        ("vqa", [], "orange", "eng_Latn"),
        ("reasoning", [RATIONALE], "orange. It is round.", "eng_Latn"),
        ("question_generation", [], "Frage?", "deu_Latn"),
        ("explanation", [RATIONALE], "Rund.", "deu_Latn"),
    ],
)
def test_an_answer_that_stays_english_gets_a_prompt_that_asks_for_english(task, more, target, target_language):
    texts = {ANSWER: "Apfelsine", QUESTION: "Frage?", JOINT: "?", "It is round.": "Rund."}
    back = table("deu_Latn", {"Apfelsine": "apple"})
    candidates = translated_fields(
        "deu_Latn", [row(task=task, more=more)], table("deu_Latn", texts), Segmenter(), CHECKED, back
    )
    templates = read_templates()
    prompts = {"deu_Latn": {text: f"[{text}]" for t in templates[task] for text in t.texts()}}
    for share in (0.0, 1.0):
        (sample,) = render(candidates, {"s:a": ("a.jpg", "0")}, {}, prompts, templates, share).to_pylist()
        assert (sample["target"], sample["target_language"], sample["answer_origin"]) == (
            target,
            target_language,
            "english",
        )
        assert sample["prompt_language"] == "eng_Latn" and "[" not in sample["prompt"]
        asks_english = target_language == "eng_Latn"
        assert ("English" in sample["prompt"]) == asks_english and ("German" in sample["prompt"]) != asks_english
        assert "Frage?" in sample["prompt"] or not asks_english


def test_an_accepted_answer_keeps_the_language_of_its_prompt_and_target():
    texts = {ANSWER: "Orange", QUESTION: "Frage?", JOINT: "Frage? Orange."}
    candidates = translated_fields("deu_Latn", [row()], table("deu_Latn", texts), Segmenter(), CHECKED)
    (sample,) = render(candidates, {"s:a": ("a.jpg", "0")}, {}, {}, read_templates(), 0.0).to_pylist()
    assert (sample["target"], sample["target_language"], sample["answer_origin"]) == ("Orange", "deu_Latn", "agreed")
    assert "German" in sample["prompt"]
