"""Script share: is the text written in the script that the language is written in?"""

from functools import cache

import regex

from pipeline.languages import BY_NLLB

SCRIPTS_OF = {"Hans": ("Hani",), "Hant": ("Hani",), "Jpan": ("Hani", "Hira", "Kana"), "Hang": ("Hang", "Hani")}
"""ISO 15924 codes that stand for several Unicode scripts, or for a variant of one. Any other code is a Unicode script itself."""

LETTER = regex.compile(r"\p{L}")


@cache
def _letters_of(script: str) -> "regex.Pattern[str]":
    scripts = SCRIPTS_OF.get(script, (script,))
    return regex.compile(
        "|".join(rf"(?:(?=\p{{L}})\p{{Script={s}}})" for s in scripts) + r"|(?:(?=\p{L})\p{Script=Common})"
    )


def script_share(text: str, language: str) -> float:
    """Share of the letters of `text` that are in the script of `language` (NLLB code), 0 to 1; 1 when there are no letters.

    Letters that Unicode counts as common to several scripts (the prolonged sound mark of Japanese) are in every script.
    """
    letters = len(LETTER.findall(text))
    if not letters:
        return 1.0
    return len(_letters_of(BY_NLLB[language].script).findall(text)) / letters
