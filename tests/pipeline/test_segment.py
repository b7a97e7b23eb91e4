import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.segment import join, segment


@settings(deadline=None, max_examples=400)
@given(st.text(max_size=300))
def test_any_text_is_rebuilt_exactly(text):
    pieces = segment(text)
    assert "".join(p.text for p in pieces) == text
    assert join(pieces, {p.text: p.text for p in pieces if p.is_sentence}) == text


WORDS = ["A dog.", "Mr. X sat!", "A. red", "B. blue", "3.14", "。", "“Hi!”"]
MARKUP = [" ", "\n", "\r\n", "\u2028", "1. ", "- ", "<image>", "https://a.b/c?d=e.", "`x = 1`"]
bits = st.sampled_from(WORDS) | st.sampled_from(MARKUP)


@settings(deadline=None, max_examples=400)
@given(st.lists(bits, max_size=12).map("".join))
def test_text_with_markup_is_rebuilt_exactly(text):
    assert "".join(p.text for p in segment(text)) == text


def sentences(text):
    return [p.text for p in segment(text) if p.is_sentence]


def test_sentences_go_to_the_translator_one_by_one():
    assert sentences("A cat sat. It saw Dr. Smith at 3.5 m.  Why?") == [
        "A cat sat.",
        "It saw Dr. Smith at 3.5 m.",
        "Why?",
    ]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("First.\n\nSecond.", "\n\n"),
        ("1. Wash it.\n2. Dry it.", "2. "),
        ("- one thing\n- another", "- "),
        ("Look at <image> now", "<image>"),
        ("See https://example.org/a.b for more.", "https://example.org/a.b"),
        ("Call `f(x)` twice", "`f(x)`"),
        ("Choose: A. red B. blue", "B. "),
    ],
)
def test_markup_stays_outside_the_translator(text, kept):
    pieces = segment(text)
    assert all(kept not in p.text for p in pieces if p.is_sentence)
    assert any(kept in p.text for p in pieces if not p.is_sentence)


@pytest.mark.parametrize("text", ["", " ", "42", "3.14 %", "…", "12:30", "\n\n"])
def test_text_without_letters_is_copied(text):
    assert sentences(text) == []


def test_a_single_letter_is_an_option_only_beside_others():
    assert sentences("Vitamin A. It is good.") == ["Vitamin A.", "It is good."] or sentences(
        "Vitamin A. It is good."
    ) == ["Vitamin A. It is good."]
    assert sentences("A. red B. blue") == ["red", "blue"]


@pytest.mark.parametrize("unit", ["A brown dog runs over the grass. ", '"One. ', "a dog, "])
def test_a_hundred_thousand_characters_are_cut_in_seconds_and_rejoined(unit):
    text = unit * (100_000 // len(unit))
    pieces = segment(text)
    assert "".join(p.text for p in pieces) == text
    if unit.startswith("A"):
        assert {p.text for p in pieces if p.is_sentence} == {unit.strip()}
