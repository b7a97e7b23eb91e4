"""Long sentences with a tokenizer of one token a character, and with the embedded model's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.mix import TranslationConfig
from pipeline.split import split_long
from pipeline.translate import load_engine


def characters(texts):
    return [len(t) for t in texts]


def words(texts):
    return [len(t.split()) for t in texts]


@given(st.text(st.sampled_from("ab ,.;:–。，x\u0301ไ👩\u200d"), max_size=120), st.integers(1, 30))
def test_parts_and_what_stands_between_them_are_the_sentence_and_short_enough(text, limit):
    pieces = split_long(text, limit, characters)
    assert len(pieces) % 2 == 1 and "".join(pieces) == text
    import regex

    assert all(len(part) <= limit or len(regex.findall(r"\X", part)) == 1 for part in pieces[::2])


def test_a_short_sentence_is_left_alone():
    assert split_long("A dog, a cat; and a mouse.", 7, words) == ["A dog, a cat; and a mouse."]


def test_the_plainest_place_is_cut_first():
    sentence = "a b c. d e f, g h i j k l"
    assert split_long(sentence, 9, words) == ["a b c.", " ", "d e f, g h i j k l"]
    assert split_long(sentence, 6, words) == ["a b c.", " ", "d e f,", " ", "g h i j k l"]
    assert split_long(sentence, 3, words)[-3:] == ["g h i", " ", "j k l"]


def test_parts_are_of_about_equal_length_not_full_ones_and_a_leftover():
    sizes = words(split_long(" ".join("abcdefghijk"), 10, words)[::2])
    assert sizes == [6, 5]


def test_clauses_of_scripts_without_spaces_are_cut_at_their_marks():
    assert split_long("一只狗在跑，一只猫在睡。", 8, characters) == ["一只狗在跑，", "", "一只猫在睡。"]
    assert max(characters(split_long("หมาวิ่งเล่นในสวน" * 50, 20, characters)[::2])) <= 20


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "word " * 20_000,
        "หมาวิ่งเล่นในสวน" * 6000,
        "一只狗在跑" * 20_000,
        "a\u200b" * 50_000,
        "ab, " * 25_000,
    ],
    ids=["one word", "words", "Thai", "Chinese", "zero width", "clauses"],
)
def test_a_hundred_thousand_characters_become_parts_that_the_model_takes(demo_model, text):
    engine = load_engine(TranslationConfig(model=str(demo_model)), threads=1)
    parts = engine._parts(text)
    assert "".join(parts) == text and len(parts) > 100
    assert max(engine.token_counts(parts[::2])) <= engine.max_source_tokens
