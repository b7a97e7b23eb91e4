"""Script share: is the text written in the script that the language is written in?"""

from functools import cache

import numpy as np

from pipeline.languages import BY_NLLB
from pipeline.quality.characters import Characters, Column, column, table_of

SCRIPTS_OF = {"Hans": ("Hani",), "Hant": ("Hani",), "Jpan": ("Hani", "Hira", "Kana"), "Hang": ("Hang", "Hani")}
"""ISO 15924 codes that stand for several Unicode scripts, or for a variant of one. Any other code is a Unicode script itself."""


@cache
def letters_of(script: str) -> np.ndarray:
    """bool[0x110000]: letters of an ISO 15924 script, and those that Unicode counts as common to several (the prolonged sound mark)."""
    scripts = "|".join(rf"\p{{Script={s}}}" for s in (*SCRIPTS_OF.get(script, (script,)), "Common", "Inherited"))
    return table_of(r"\p{L}") & table_of(scripts)


def script_shares(texts: Column, language: str) -> np.ndarray:
    """Share of the letters of each text that are in the script of `language` (NLLB code), 0 to 1; 1 where there are no letters."""
    characters = Characters(texts)
    letters = characters.count_in(table_of(r"\p{L}"))
    own = characters.count_in(letters_of(BY_NLLB[language].script))
    return np.where(letters > 0, own / np.maximum(letters, 1), 1.0)


def script_share(text: str, language: str) -> float:
    """`script_shares` of one text."""
    return float(script_shares(column([text]), language)[0])
