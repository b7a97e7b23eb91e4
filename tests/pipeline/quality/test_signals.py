import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.languages import BY_NLLB
from pipeline.quality.copy import source_copy
from pipeline.quality.length import length_ratio
from pipeline.quality.repetition import repetition
from pipeline.quality.script import script_share

GOOD = {
    "deu_Latn": ("A brown dog runs on the beach.", "Ein brauner Hund läuft am Strand."),
    "rus_Cyrl": ("A brown dog runs on the beach.", "Коричневая собака бежит по пляжу."),
    "arb_Arab": ("A brown dog runs on the beach.", "كلب بني يجري على الشاطئ."),
    "hin_Deva": ("A brown dog runs on the beach.", "एक भूरा कुत्ता समुद्र तट पर दौड़ता है।"),
    "zho_Hans": ("A brown dog runs on the beach.", "一只棕色的狗在沙滩上奔跑。"),
    "jpn_Jpan": ("A brown dog runs on the beach.", "茶色い犬がビーチを走っている。"),
    "kor_Hang": ("A brown dog runs on the beach.", "갈색 개가 해변을 달린다."),
    "tha_Thai": ("A brown dog runs on the beach.", "สุนัขสีน้ำตาลวิ่งบนชายหาด"),
    "heb_Hebr": ("A brown dog runs on the beach.", "כלב חום רץ על החוף."),
}


@pytest.mark.parametrize("language", GOOD)
def test_good_text_scores_well_on_every_signal(language):
    source, text = GOOD[language]
    assert source_copy(source, text) < 0.2
    assert script_share(text, language) == 1
    assert 0.3 < length_ratio(source, text) < 2
    assert repetition(text) == 0


@pytest.mark.parametrize("language", [x for x in GOOD if not x.endswith("Latn")])
def test_english_in_another_script_s_place_shows_in_the_script_share(language):
    source, text = GOOD[language]
    assert script_share(source, language) == 0
    assert (
        0.3 < script_share(text + " " + "dog" * len(text), language) < 0.7
        or script_share(text + source * 3, language) < 0.5
    )


def test_a_copy_shows_whatever_its_case_and_punctuation():
    source = "A brown dog runs on the beach."
    assert source_copy(source, "a Brown DOG, runs on the beach") == 1
    assert source_copy(source, "Ein brown Hund runs am Strand") == pytest.approx(2 / 7)
    assert source_copy("42", "42") == 0


def test_chinese_japanese_and_korean_share_han_but_not_their_own_scripts():
    assert script_share("犬", "jpn_Jpan") == script_share("犬", "zho_Hans") == script_share("犬", "kor_Hang") == 1
    assert script_share("いぬ", "zho_Hans") == 0
    assert script_share("ラーメン", "jpn_Jpan") == 1  # the prolonged sound mark is of no script


LOOPS = [
    "the the the the the the",
    "hahahahahahaha",
    "собака собака собака собака собака",
    "好好好好好好",
    "犬が走る。" * 4,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_loops_show(loop):
    assert repetition(loop) > 0.7


@pytest.mark.parametrize("text", ["very very good", "haha", "bye bye", "Ну, ну, ну!", "......"[:3]])
def test_what_people_repeat_is_no_loop(text):
    assert repetition(text) < 0.4


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=200), st.text(max_size=200), st.sampled_from(sorted(BY_NLLB)))
@example("\ud800", "\udfff\u202e", "arb_Arab")
@example("a", "x" * 1_000_000, "deu_Latn")
@example("", "👩‍👩‍👧‍👦" * 50, "zho_Hans")
def test_no_text_makes_a_signal_raise_or_leave_its_range(source, text, language):
    assert 0 <= source_copy(source, text) <= 1
    assert 0 <= script_share(text, language) <= 1
    assert 0 <= repetition(text) <= 1
    assert length_ratio(source, text) > 0
