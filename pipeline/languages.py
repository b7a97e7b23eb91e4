"""Reads `languages.csv`, the one table of languages.

No other file of the project holds a language list or a language code; what varies by language is a column there. Columns: `code` (mBLIP's,
which is mC4's), `aliases` (other codes that users write), `tag` (BCP 47), `nllb` (NLLB-200's code, used everywhere inside), `name` (English),
`own_name`, `script` (ISO 15924), `direction` (ltr or rtl), `mc4_percent` and `mt5_percent` (share of the corpus and of mT5's training samples),
`confusable` (labels that language identifiers give to good text of this language), and one column for each language identifier with the label
that it uses (or the labels that its versions use, separated by spaces), empty where it has none.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("languages.csv")
IDENTIFIERS = ("lid176", "lid218e", "glotlid", "openlid", "py3langid", "pycld2", "cld3")


@dataclass(frozen=True)
class Language:
    """One row of `languages.csv`."""

    code: str
    aliases: tuple[str, ...]
    tag: str
    """BCP 47 tag for the outside world: HTML's `lang`, dataset cards. (mC4's codes keep the retired `iw` for Hebrew.)"""
    nllb: str
    name: str
    own_name: str
    script: str
    direction: str
    mc4_percent: float
    mt5_percent: float
    confusable: tuple[str, ...]
    labels: dict[str, str | None]
    """Label by identifier, or several spellings separated by spaces; None where the identifier does not know the language."""

    @property
    def is_right_to_left(self) -> bool:
        return self.direction == "rtl"


def read_languages(path: Path = TABLE) -> tuple[Language, ...]:
    """Read the table. Raises ValueError that names the row when a code is given twice or a cell is missing."""
    languages: list[Language] = []
    seen: set[str] = set()
    with open(path, encoding="utf-8", newline="") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                language = Language(
                    code=row["code"],
                    aliases=tuple(row["aliases"].split()),
                    tag=row["tag"],
                    nllb=row["nllb"],
                    name=row["name"],
                    own_name=row["own_name"],
                    script=row["script"],
                    direction=row["direction"],
                    mc4_percent=float(row["mc4_percent"]),
                    mt5_percent=float(row["mt5_percent"]),
                    confusable=tuple(row["confusable"].split()),
                    labels={name: row[name] or None for name in IDENTIFIERS},
                )
            except (KeyError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {line}: {error!r}. Every column of the header needs a value."
                ) from error
            for code in {language.code, language.nllb, *language.aliases}:
                if code in seen:
                    raise ValueError(f"{path}, line {line}: the code {code!r} is in the table twice.")
                seen.add(code)
            languages.append(language)
    return tuple(languages)


LANGUAGES: tuple[Language, ...] = read_languages()
ENGLISH = "eng_Latn"
BY_NLLB: dict[str, Language] = {language.nllb: language for language in LANGUAGES}


@cache
def _by_any_code() -> dict[str, Language]:
    return {code: language for language in LANGUAGES for code in (language.code, language.nllb, *language.aliases)}


def find_language(code: str) -> Language:
    """The language of any code in the table (NLLB's, mBLIP's or an alias). Raises ValueError that lists near codes."""
    language = _by_any_code().get(code)
    if language is None:
        near = sorted(c for c in _by_any_code() if c[:2].lower() == code[:2].lower())
        hint = f" Did you mean one of {', '.join(near)}?" if near else ""
        raise ValueError(
            f"There is no language {code!r} in {TABLE.name}.{hint} Use a code of its columns `nllb`, `code` or `aliases`."
        )
    return language
