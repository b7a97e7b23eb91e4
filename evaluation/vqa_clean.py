"""The official cleaning of VQA answers, as everyone who reports "VQA accuracy" applies it.

From the VQA evaluation of Antol et al. 2015 (GT-Vision-Lab/VQA, BSD-2-Clause), by way of LAVIS: punctuation is removed where it stands beside a
space (or where the text has a number with a comma) and becomes a space elsewhere, full stops go unless they stand in a number, number
words up to ten become digits, articles are dropped, and contractions without apostrophe get it back. It is made for English.

Kept as published, with what is odd in it: "none" becomes "0"; `(?!<=\\d)` in the rule for full stops looks like a look-behind and is none, so
only a following digit protects a full stop; and that rule is called with `re.UNICODE` (32) where `re.sub` expects a count.
"""

import re

NUMBERS = {
    word: str(digit)
    for digit, words in enumerate(
        (("none", "zero"), "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
    for word in ((words,) if isinstance(words, str) else words)
}
ARTICLES = frozenset(("a", "an", "the"))
PUNCTUATION = (";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!")
FULL_STOP = re.compile(r"(?!<=\d)(\.)(?!\d)")
COMMA_IN_NUMBER = re.compile(r"(\d)(,)(\d)")
MOST_FULL_STOPS = int(re.UNICODE)

_BARE = """
aint arent cant couldve couldnt didnt doesnt dont hadnt hasnt havent hes howd howll hows isnt itd itll maam mightnt mightve mustnt mustve
neednt oughtnt shant shouldve shouldnt thats thered therere theres theyd theyll theyre theyve wasnt weve werent whatll whatre whats whatve whens
whered wheres whereve whod wholl whos whove whyll whyre whys wont wouldve wouldnt yall youd youll youre youve
"""
_SUFFIXES = ("nt", "ve", "ll", "re", "d", "s", "m")


def _with_apostrophe(word: str) -> str:
    suffix = next(x for x in _SUFFIXES if word.endswith(x))
    return f"{word[: -len(suffix)]}n't" if suffix == "nt" else f"{word[: -len(suffix)]}'{suffix}"


CONTRACTIONS = (
    {word: _with_apostrophe(word) for word in _BARE.split()}
    | {
        "maam": "ma'am",
        "yall": "y'all",
        "twas": "'twas",
        "oclock": "o'clock",
        "hed": "he'd",
        "somebodyll": "somebody'll",
        "somebodys": "somebody's",
        "someoned": "someone'd",
        "someonell": "someone'll",
        "someones": "someone's",
        "somethingd": "something'd",
        "somethingll": "something'll",
        "somebody'd": "somebodyd",
        "notve": "not've",
        "ow's'at": "'ow's'at",
        "'ows'at": "'ow's'at",
        "'ow'sat": "'ow's'at",
        "yall'll": "y'all'll",
        "y'allll": "y'all'll",
    }
    | {
        f"{stem}{first}ve": f"{stem}'d've"
        for stem in ("he", "it", "she", "somebody", "someone", "something", "there", "they", "we", "who", "you")
        for first in ("d'", "'d")
    }
    | {
        spelling: f"{stem}n't've"
        for stem in ("could", "had", "might", "should", "would")
        for spelling in (f"{stem}n'tve", f"{stem}nt've")
    }
    | {"yall'd've": "y'all'd've", "y'alld've": "y'all'd've", "y'all'dve": "y'all'd've"}
)


def clean(answer: str) -> str:
    """`answer` as the official evaluation compares it."""
    text = answer.replace("\n", "").replace("\t", "").strip()
    has_number_with_comma = COMMA_IN_NUMBER.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or has_number_with_comma else " ")
    cleaned = FULL_STOP.sub("", cleaned, count=MOST_FULL_STOPS)
    words = (NUMBERS.get(word, word) for word in cleaned.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)
