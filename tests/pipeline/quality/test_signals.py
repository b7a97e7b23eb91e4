"""Each signal alone, on real sentences in ten scripts, and on anything that Unicode has."""

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.languages import BY_NLLB
from pipeline.quality.agreement import answer_agreements
from pipeline.quality.characters import Characters, column
from pipeline.quality.copy import source_copies
from pipeline.quality.learnt import read_learnt
from pipeline.quality.length import length_deviations, length_ratios
from pipeline.quality.markup import markup_leaked, unknown_characters
from pipeline.quality.names import without_names
from pipeline.quality.numerals import numbers_kept, options_lost
from pipeline.quality.repetition import repetitions
from pipeline.quality.score import text_signals
from pipeline.quality.script import script_share, script_shares
from pipeline.quality.truncation import truncations

from .conftest import ENGLISH_TEXT, REAL, candidate

LANGUAGES = list(REAL)
NOT_LATIN = [x for x in REAL if not x.endswith("Latn")]


def one(signal, *texts, **rest):
    result = signal(*(column([t]) for t in texts), **rest)
    return tuple(float(x[0]) for x in result) if isinstance(result, tuple) else float(result[0])


def truncation(source, text, language, deviation=0.0):
    kept = read_learnt().final_kept[language]
    return float(truncations(column([source]), column([text]), np.array([deviation]), kept)[0])


def signals(pairs, language):
    source, text = column([s for s, _ in pairs]), column([t for _, t in pairs])
    return text_signals(source, text, without_names(source, text), language, read_learnt())


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_good_translation_scores_well_on_every_signal(language):
    values = {name: float(x[0]) for name, x in signals([(ENGLISH_TEXT, REAL[language])], language).items()}
    assert values["script_share"] == 1
    assert -2.5 < values["length_deviation"] < 2.5
    assert 0.3 < values["length_ratio"] < 2
    assert values["truncation"] < 1
    zero = {"source_copy", "repetition", "numbers_lost", "numbers_changed", "options_lost", "markup", "unknown_tokens"}
    assert all(values[name] == 0 for name in zero), values


# --- copy ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_english_that_stayed_shows_in_the_source_copy(language):
    assert one(source_copies, ENGLISH_TEXT, ENGLISH_TEXT.upper()) == 1
    half = REAL[language] + " The sign says open from"
    assert one(source_copies, ENGLISH_TEXT, half) == pytest.approx(5 / 9)


def test_a_copy_shows_whatever_its_case_and_punctuation():
    source = "A brown dog runs on the beach."
    assert one(source_copies, source, "a Brown DOG, runs on the beach") == 1
    assert one(source_copies, source, "Ein brown Hund runs am Strand") == pytest.approx(2 / 7)
    assert one(source_copies, "42", "42") == 0


# --- script --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", NOT_LATIN)
def test_english_in_another_script_s_place_shows_in_the_script_share(language):
    assert script_share(ENGLISH_TEXT, language) == 0
    assert 0.2 < script_share(REAL[language] + ENGLISH_TEXT, language) < 0.8


def test_chinese_japanese_and_korean_share_han_but_not_their_own_scripts():
    assert script_share("犬", "jpn_Jpan") == script_share("犬", "zho_Hans") == script_share("犬", "kor_Hang") == 1
    assert script_share("いぬ", "zho_Hans") == 0
    assert script_share("ラーメン", "jpn_Jpan") == 1  # the prolonged sound mark is of no script
    assert script_share("12:30!", "arb_Arab") == 1  # no letters: nothing is wrong


# --- length --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_half_and_thrice_a_text_lie_farther_from_the_usual_length(language):
    text, factor = REAL[language], read_learnt().length_factor(language)
    good, short, long = (
        one(length_deviations, ENGLISH_TEXT, t, factor=factor) for t in (text, text[: len(text) // 4], text * 4)
    )
    assert short < -3 < good < 3 < long
    assert one(length_ratios, ENGLISH_TEXT, ENGLISH_TEXT) == 1


def test_languages_differ_in_their_usual_length():
    lengths = read_learnt().lengths
    assert lengths["zho_Hans"].mean < -0.6 < lengths["deu_Latn"].mean < 0.4
    assert len(lengths) >= 90


# --- repetition ----------------------------------------------------------------------------------------------------------------------

LOOPS = [
    "the the the the the the",
    "hahahahahahaha",
    "собака собака собака собака собака",
    "好好好好好好",
    "犬が走る。" * 4,
    "כלב חום רץ " * 3,
    "สุนัขวิ่ง" * 5,
    "कुत्ता दौड़ता है और " * 3,
    "الكلب الكلب الكلب الكلب",
    "Ein brauner Hund läuft am Strand. Ein brauner Hund läuft am Strand.",
    "A good beginning, and then and then and then and then and then and then and then",
]


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_show(loop):
    assert one(repetitions, loop) > 0.6


@pytest.mark.parametrize(
    "text", ["very very good", "haha", "bye bye", "Ну, ну, ну!", "...", "------------", "2000000", "看看", "เร็วๆ"]
)
def test_what_people_repeat_is_no_loop(text):
    assert one(repetitions, text) == 0


def test_what_the_source_repeats_as_well_is_no_loop():
    result = repetitions(column(["Ja, ja, ja, ja, ja, ja!"]), column(["Yes, yes, yes, yes, yes, yes!"]))
    assert float(result[0]) < 0.1


# --- truncation ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_that_is_cut_off_shows(language):
    text = REAL[language]
    assert truncation(ENGLISH_TEXT, text, language) < 0.3
    assert (
        truncation(ENGLISH_TEXT, text[: int(len(text) * 0.6)], language, deviation=-2) > 0.9
    )  # an open quote or bracket, no final mark
    assert truncation(ENGLISH_TEXT, "", language) == 0


# --- numbers, options ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_changed_number_shows_in_any_script_s_digits(language):
    text = REAL[language]
    changed = text.replace("17", "18").replace("١٧", "١٨").replace("१७", "१८")
    assert changed != text
    assert one(numbers_kept, ENGLISH_TEXT, text) == (0, 0)
    assert one(numbers_kept, ENGLISH_TEXT, changed) == (0.5, 0.5)
    gone = "".join(c for c in text if unicodedata.category(c) != "Nd")
    assert one(numbers_kept, ENGLISH_TEXT, gone) == (1, 0)


@pytest.mark.parametrize(
    ("source", "text"),
    [("1,000 birds", "1.000 Vögel"), ("2.5 metres", "2,5 м"), ("10 000", "१००००"), ("no number", "7")],
)
def test_separators_and_digits_of_other_scripts_change_no_number(source, text):
    lost, changed = one(numbers_kept, source.replace(" 0", "\u202f0"), text)
    assert (lost, changed) == (0, 0)


OTHERWISE = [
    ("Two dogs and 3 cats.", "2 Hunde und drei Katzen."),
    ("Two dogs and 3 cats.", "2匹の犬と三匹の猫。"),
    ("Two dogs and 3 cats.", "2 собаки и три кошки."),
    ("Twenty-one birds and 1 cat", "21 পাখি ও একটি বিড়াল"),
    ("A crowd of 10,000 people.", "体育场里有1万人。"),
    ("A crowd of 10,000 people.", "1만 명의 관중."),
    ("A crowd of 10,000 people.", "Une foule de 10 000 personnes."),
    ("A 1.5 million dollar house", "价值150万美元的房子"),
    ("The clock shows 5 pm.", "Die Uhr zeigt 17 Uhr."),
    ("A train leaves at 10:30.", "Juna lähtee klo 10.30."),
    ("A photo from 12/25/2020.", "صورة من ٢٥.١٢.٢٠٢٠"),
    ("A red car from the 1950s.", "Ein Auto aus den 50er Jahren."),
    ("A red car from the 1950s.", "一辆20世纪50年代的红色汽车。"),
]


@pytest.mark.parametrize(("source", "text"), OTHERWISE)
def test_a_number_that_is_written_otherwise_is_not_changed(source, text):
    assert one(numbers_kept, source, text)[1] == 0


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Two dogs and 3 cats.", "2 Hunde und 4 Katzen."),
        ("A crowd of 10,000 people.", "体育场里有2万人。"),
        ("The clock shows 5 pm.", "Die Uhr zeigt 18 Uhr."),
        ("A photo from 12/25/2020.", "صورة من ٢٥.١٢.٢٠٢١"),
        ("A red car from the 1950s.", "Машина 60-х годов."),
        ("1,000 birds", "1.500 Vögel"),
    ],
)
def test_another_number_is(source, text):
    assert one(numbers_kept, source, text)[1] > 0


@pytest.mark.parametrize(
    "text",
    ["A. rot B. blau", "A. красный B. синий", "(A) 红 (B) 蓝", "A) أحمر B) أزرق", "A. लाल B. नीला", "A. 빨강 B. 파랑"],
)
def test_option_letters_are_missed_when_they_go(text):
    assert one(options_lost, "A. red B. blue", text) == 0
    assert one(options_lost, "A. red B. blue", text.replace("B", "")) == 0.5
    assert one(options_lost, "A red house", text) == 0


# --- markup, unknown -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    "leak",
    ["</s>", "<unk>", "deu_Latn", "&amp;", "<b>", "<image>", "▁", "[MASK]", "<|im_end|>", "{0}", "%s", "__label__de"],
)
def test_leaked_markup_shows_unless_the_source_has_it(language, leak):
    text = REAL[language]
    assert one(markup_leaked, ENGLISH_TEXT, text) == 0
    assert one(markup_leaked, ENGLISH_TEXT, f"{text} {leak}") == 1
    assert one(markup_leaked, f"{ENGLISH_TEXT} {leak}", f"{text} {leak}") == 0


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("mark", ["<unk>", "⁇", "\ufffd", "[UNK]"])
def test_a_character_that_the_model_could_not_write_is_counted(language, mark):
    text, middle = REAL[language], len(REAL[language]) // 2
    assert one(unknown_characters, text) == 0
    assert one(unknown_characters, text[:middle] + mark + text[middle + 1 :]) == 1
    assert one(unknown_characters, mark + text + mark) == 2


def test_question_marks_are_no_lost_characters():
    assert one(unknown_characters, "Eine Frage?? Zwei <unklar>") == 0


# --- answers -------------------------------------------------------------------------------------------------------------------------

CHOICES = {
    "deu_Latn": ("Ist der Bus rot oder blau?", "Blau", "Grün"),
    "rus_Cyrl": ("Автобус красный или синий?", "синего", "жёлтый"),
    "ell_Grek": ("Το λεωφορείο είναι κόκκινο ή μπλε;", "μπλε", "κίτρινο"),
    "arb_Arab": ("هل الحافلة حمراء أم زرقاء؟", "زرقاء", "صفراء"),
    "hin_Deva": ("बस लाल है या नीली?", "नीली", "पीला"),
    "zho_Hans": ("公共汽车是红色的还是蓝色的？", "蓝", "黄"),
    "kor_Hang": ("버스는 빨간색인가요 파란색인가요?", "파란색", "노랑"),
    "tha_Thai": ("รถบัสสีแดงหรือสีน้ำเงิน", "น้ำเงิน", "เหลือง"),
}


@pytest.mark.parametrize("language", CHOICES)
def test_an_answer_that_is_none_of_the_choices_disagrees_with_its_question(language):
    question, good, bad = CHOICES[language]
    asked = "Is the bus red or blue?"
    assert one(answer_agreements, asked, "blue", question, good) >= 0.5
    assert one(answer_agreements, asked, "blue", question, bad) == 0
    assert one(answer_agreements, asked, "yes", question, bad) == 1  # nothing to compare


# --- anything ------------------------------------------------------------------------------------------------------------------------

ODD = st.sampled_from(
    [
        "\ud800",
        "\udfff",
        "\u202e",
        "\u2066",
        "\x00",
        "\ufffe",
        "👩‍👩‍👧‍👦",
        "\u0301" * 9,
        "𝔘",
        "ﷺ",
        "\U0010ffff",
        "<",
        "&#",
    ]
)
TEXT = st.text(max_size=120) | st.lists(st.text(max_size=20) | ODD, max_size=8).map("".join)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), st.sampled_from(sorted(BY_NLLB)))
@example([("\ud800", "\udfff\u202e")], "arb_Arab")
@example([("a", "x" * 1_000_000), ("ж" * 1_000_000, "")], "deu_Latn")
@example([("7" * 1_000_000, "٧" * 1_000_000), ("<a" * 300_000, "(" * 1_000_000)], "arb_Arab")
@example([("", "👩‍👩‍👧‍👦" * 50)], "zho_Hans")
def test_no_text_makes_a_signal_raise_or_leave_its_range(pairs, language):
    source, text = column([s for s, _ in pairs]), column([t for _, t in pairs])
    values = signals(pairs, language)
    values["answer_agreement"] = answer_agreements(source, source, text, text)
    for name, numbers in values.items():
        assert len(numbers) == len(pairs) and np.isfinite(numbers).all(), name
        if name not in ("length_deviation",):
            assert (numbers >= 0).all(), name
        if name in (
            "source_copy",
            "script_share",
            "repetition",
            "numbers_lost",
            "numbers_changed",
            "options_lost",
            "answer_agreement",
        ):
            assert (numbers <= 1).all(), name


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=2, max_size=8), st.sampled_from(sorted(BY_NLLB)))
def test_no_signal_depends_on_the_other_rows(pairs, language):
    together, alone = signals(pairs, language), [signals([pair], language) for pair in pairs]
    for name, numbers in together.items():
        assert numbers.tolist() == [float(x[name][0]) for x in alone], name


@given(st.lists(st.text(max_size=30), max_size=6))
def test_characters_keep_their_rows(texts):
    strings = column(texts)
    characters = Characters(strings)
    assert characters.lengths.tolist() == [len(t) for t in strings.to_pylist()]
    assert [int(x) for x in characters.last()] == [ord(t[-1]) if t else 0 for t in strings.to_pylist()]
    assert characters.count_in(np.ones(0x110000, bool)).tolist() == characters.lengths.tolist()


def test_a_slice_of_a_column_is_read_as_itself():
    strings = column(["кот", "собака", "птица"]).slice(1, 1)
    assert Characters(strings).lengths.tolist() == [6]
    assert script_shares(strings, "rus_Cyrl").tolist() == [1]


def test_an_answer_that_stayed_english_is_not_judged(judge):
    """`bicycle shop sign` in a Thai sample would be the wrong script, were it not known to be English."""
    question = ("question", "What is written on the sign?", "บนป้ายเขียนว่าอะไร?")
    sample = candidate("tha_Thai", [question, ("answer", "bicycle shop sign", "bicycle shop sign")], task="vqa")
    assert judge(sample)["s@tha_Thai"] == "wrong_script"
    sample["fields"][1]["origin"] = "english"
    assert judge(sample)["s@tha_Thai"] == ""
