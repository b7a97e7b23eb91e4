"""Make the glossary files from text that people translated and packages ship.

    npm install cldr-misc-full@48.2.0 cldr-annotations-full@48.2.0
    pip install --target packages --no-deps unicode-rbnf==2.4.1 django==5.2
    PYTHONPATH=packages:. python -m pipeline.glossaries.build node_modules

Nearly everything comes from Unicode CLDR. A word is taken only where nothing speaks against it:

    yes, no     `posix.json`, where the language has words of its own there and answers with them; in four languages Django's "yes,no,maybe"
    0 to 20     spelt out by CLDR's rules, where counting and every gender say the same word ("ein, eine, eins" is left out)
    colours     the one keyword that at least two of circle, square and heart of a colour share, and no other colour has (no orange,
                which is a fruit in English too)
    nouns       the emoji's short name, where its English name is the answer and the name is one word, unlike the English
                (a name of several words is often a description: "banana, fruit", "face of a bear")

What a reader of the files found wrong stands in `LEFT_OUT`, with the reason. Readers of more of the languages are welcome.
"""

import argparse
import csv
import gettext
import io
import json
import re
import sys
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.languages import ENGLISH, LANGUAGES, Language
from pipeline.quality.script import script_share

FOLDER = Path(__file__).parent
COLUMNS = ("english", "text", "source", "licence")
CLDR_LICENCE, DJANGO_LICENCE = "Unicode-3.0", "BSD-3-Clause"

NUMBERS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen",
    "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
]  # fmt: skip
COLOURS = {
    "black": "⚫⬛🖤", "blue": "🔵🟦💙", "brown": "🟤🟫🤎", "green": "🟢🟩💚", "purple": "🟣🟪💜",
    "red": "🔴🟥❤", "white": "⚪⬜🤍", "yellow": "🟡🟨💛",
}  # fmt: skip
NOUNS = {
    "man": "👨", "woman": "👩", "boy": "👦", "girl": "👧", "dog": "🐕", "cat": "🐈", "horse": "🐎", "bird": "🐦", "fish": "🐟",
    "elephant": "🐘", "giraffe": "🦒", "zebra": "🦓", "bus": "🚌", "airplane": "✈", "bicycle": "🚲", "banana": "🍌", "carrot": "🥕",
    "chair": "🪑", "bed": "🛏",
}  # fmt: skip
GENDERED = re.compile(
    r"spellout-cardinal(-(masculine|feminine|neuter|common|masculine-personal|animate|inanimate|[a-z]))?"
)
"""CLDR's rules for counting things, less those for other cases than the nominative."""
MIN_SCRIPT_SHARE = 0.9

LEFT_OUT = {
    "am": "man zero eleven-twenty",  # says person; says empty; the tens are put together word by word
    "ar": "eleven",  # mixes two genders
    "cy": "yes",  # answers repeat the verb; so in ga and gd
    "eu": "bicycle",  # says moped
    "ga": "yes",
    "gd": "yes",
    "ht": "yes",  # inherited from French
    "hy": "man",  # says person
    "id": "chair",  # says bench
    "is": "bicycle",  # says cycling
    "ko": "zero-twenty",  # things are counted with other numbers
    "mr": "blue brown green purple yellow",  # neuter
    "mt": "fish",  # plural
    "pl": "colours",  # neuter or masculine, as the noun was
    "ps": "blue green red",  # plural; says sky-coloured
    "sd": "man",  # says person
    "si": "man zebra",  # misspelt
    "sl": "blue",  # an adverb, where the others are masculine
    "so": "green",  # misspelt
    "sw": "blue",  # one of two words
    "fil": "zero-twenty",  # with the dictionary's stress marks; its zero says nothing
    "uk": "black red white",  # neuter, where the others are masculine
    "ur": "bird",  # misspelt
    "zu": "zero-twenty woman",  # verbs: it is one; says mother
}
"""What a reader found wrong: answers by our code of the language; `yes` stands for no as well, and `zero-twenty` for all between them."""
NOT_FROM_CLDR = {
    "te": "its no is for offers",
    "tr": "its no is misspelt",
    "zh": "says confirm and deny",
}
"""Languages whose yes and no in CLDR a reader found wrong, and right in Django."""
SPELLING = {"ro": str.maketrans("şţŞŢ", "șțȘȚ")}
"""Older letters of a language that CLDR mixes with the ones of today."""
CAPITAL_NOUNS = ("de", "lb")


def locale_of(npm: Path, package: str, language: Language) -> str | None:
    """What CLDR calls the language in this package, or None when it is not there."""
    names = (
        language.tag,
        language.tag.split("-")[0],
        language.code,
        *language.aliases,
        "no" if language.tag == "nb" else "",
    )
    return next((n for n in dict.fromkeys(names) if n and (npm / package / n).is_dir()), None)


def clean(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text.replace("\u00ad", "").replace("\u200b", "")).split())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def version_of(npm: Path, package: str) -> str:
    return f"{package} {read_json(npm / package / 'package.json')['version']}"


def yes_and_no(npm: Path, language: Language) -> Iterator[tuple[str, str]]:
    locale = locale_of(npm, "cldr-misc-full/main", language)
    if locale is None:
        return
    messages, root = (
        read_json(npm / "cldr-misc-full/main" / name / "posix.json")["main"][name]["posix"]["messages"]
        for name in (locale, "und")
    )
    if messages.get("yesstr", root["yesstr"]) != root["yesstr"]:
        for english in ("yes", "no"):
            yield english, clean(re.split("[:ः]", messages[f"{english}str"])[0])


def yes_and_no_of_django(language: Language) -> Iterator[tuple[str, str]]:
    """What Django writes for a truth value, where its translators kept the form of the list."""
    import django  # type: ignore[import-not-found,import-untyped,unused-ignore]

    folder = Path(django.__file__).parent / "conf" / "locale"
    for name in (language.tag.replace("-", "_"), language.code):
        path = folder / name / "LC_MESSAGES" / "django.mo"
        if path.exists():
            with open(path, "rb") as file:
                words = gettext.GNUTranslations(file).gettext("yes,no,maybe")
            parts = [clean(w) for w in re.split("[,、]", words)]
            if len(parts) == 3 and words != "yes,no,maybe":
                yield from zip(("yes", "no"), parts, strict=False)
            return


def numbers(language: Language) -> Iterator[tuple[str, str]]:
    from unicode_rbnf import RbnfEngine  # type: ignore[import-not-found,unused-ignore]

    names = (language.tag.split("-")[0], language.code)
    locale = next((n for n in names if n in RbnfEngine.get_supported_languages()), None)
    if locale is None:
        return
    engine = RbnfEngine.for_language(locale)
    rules = [name for name in engine.rulesets if GENDERED.fullmatch(name) or name == "spellout-numbering"]
    for number, english in enumerate(NUMBERS):
        words = {clean(w) for w in engine.format_number(number, ruleset_names=rules).text_by_ruleset.values()}
        if len(words) == 1:
            yield english, words.pop()


@cache
def annotations(npm: Path, locale: str) -> dict[str, Any]:
    table: dict[str, Any] = read_json(npm / "cldr-annotations-full/annotations" / locale / "annotations.json")
    found: dict[str, Any] = table["annotations"].get("annotations", {})  # the root has none
    return found


def colours(npm: Path, language: Language) -> Iterator[tuple[str, str]]:
    locale = locale_of(npm, "cldr-annotations-full/annotations", language)
    if locale is None:
        return
    table, root = annotations(npm, locale), annotations(npm, "und")

    def keywords(emoji: str) -> set[str]:
        own = table.get(emoji, {}).get("default", [])
        return {clean(w) for w in own} - {clean(w) for w in root.get(emoji, {}).get("default", [])}

    shapes = [set.intersection(*(keywords(e[i]) for e in COLOURS.values())) for i in range(3)]
    for english, emoji in COLOURS.items():
        found = [keywords(e) - shape for e, shape in zip(emoji, shapes, strict=True)]
        others = set().union(*(keywords(e) for colour, es in COLOURS.items() if colour != english for e in es))
        common = {w for words in found for w in words if sum(w in other for other in found) >= 2} - others
        if len(common) == 1:
            yield english, common.pop()


def nouns(npm: Path, language: Language) -> Iterator[tuple[str, str]]:
    locale = locale_of(npm, "cldr-annotations-full/annotations", language)
    if locale is None:
        return
    table, root, english = annotations(npm, locale), annotations(npm, "und"), annotations(npm, "en")
    for answer, emoji in NOUNS.items():
        if english[emoji]["tts"] != [answer]:
            raise ValueError(f"CLDR does not call {emoji} {answer!r} any longer, but {english[emoji]['tts']}.")
        name = clean(table.get(emoji, {}).get("tts", [""])[0])
        if name and table[emoji]["tts"] != root.get(emoji, {}).get("tts") and not re.search(r"[\s,;/()]", name):
            yield answer, name


def glossary(npm: Path, language: Language) -> list[tuple[str, str, str, str]]:
    """Rows of a language's file: yes and no, numbers, colours, nouns."""
    from importlib.metadata import version

    django = f"django {version('django')}"
    truth = [] if language.code in NOT_FROM_CLDR else list(yes_and_no(npm, language))
    kinds = (
        (truth, version_of(npm, "cldr-misc-full")),
        ([] if truth else yes_and_no_of_django(language), django),
        (numbers(language), f"unicode-rbnf {version('unicode-rbnf')} (CLDR)"),
        (colours(npm, language), version_of(npm, "cldr-annotations-full")),
        (nouns(npm, language), version_of(npm, "cldr-annotations-full")),
    )
    left_out = _left_out(language.code)
    rows = []
    for found, source in kinds:
        for english, word in found:
            text = word.translate(SPELLING.get(language.code, {}))
            if language.code not in CAPITAL_NOUNS:
                text = text[:1].lower() + text[1:]
            is_copy = text.casefold() == english and english not in ("yes", "no")
            is_in_script = bool(text) and script_share(text, language.nllb) >= MIN_SCRIPT_SHARE
            if english not in left_out and not is_copy and is_in_script:
                rows.append((english, text, source, DJANGO_LICENCE if source == django else CLDR_LICENCE))
    return rows


def _left_out(code: str) -> set[str]:
    answers: set[str] = set()
    for name in LEFT_OUT.get(code, "").split():
        first, _, last = name.partition("-")
        if last:
            answers |= set(NUMBERS[NUMBERS.index(first) : NUMBERS.index(last) + 1])
        else:
            answers |= {"yes", "no"} if name == "yes" else set(COLOURS) if name == "colours" else {name}
    return answers


def coverage() -> str:
    """A Markdown table of what the files beside this one hold, by language."""
    lines = ["| language | code | yes, no | numbers | colours | things |", "|---|---|---:|---:|---:|---:|"]
    kinds = ({"yes", "no"}, set(NUMBERS), set(COLOURS), set(NOUNS))
    for language in LANGUAGES:
        path = FOLDER / f"{language.nllb}.csv"
        if path.exists():
            with open(path, encoding="utf-8", newline="") as file:
                answers = [row["english"] for row in csv.DictReader(file)]
            counts = (sum(a in kind for a in answers) or "–" for kind in kinds)
            lines.append(f"| {language.name} | {language.nllb} | {' | '.join(map(str, counts))} |")
    none = [x.name for x in LANGUAGES if x.nllb != ENGLISH and not (FOLDER / f"{x.nllb}.csv").exists()]
    return "\n".join([*lines, "", f"No file: {', '.join(none)}."])


ABOUT = """# Glossaries

Closed answers as people translated them: yes and no, zero to twenty, eight colours and nineteen things. One CSV a language: `english`, `text`,
`source`, `licence`. Nearly everything here is from Unicode CLDR, under [Unicode-3.0](Unicode-3.0.txt); four languages have yes and no from Django,
under [BSD-3-Clause](BSD-3-Clause-django.txt). How a word gets in, and what a reader took out
again, is told in [`build.py`](build.py), which makes these files and this page. A wrong word: name it in `LEFT_OUT` there, with the reason, and run
it again.

{table}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m pipeline.glossaries.build", description="Make the glossary files.")
    parser.add_argument("npm", type=Path, metavar="NODE_MODULES")
    npm: Path = parser.parse_args().npm
    for language in LANGUAGES:
        if language.nllb != ENGLISH and (rows := glossary(npm, language)):
            out = io.StringIO()
            csv.writer(out, lineterminator="\n").writerows([COLUMNS, *rows])
            files.write_text(FOLDER / f"{language.nllb}.csv", out.getvalue())
            sys.stdout.write(f"{language.nllb} {len(rows):>3}\n")
    files.write_text(FOLDER / "README.md", ABOUT.format(table=coverage()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
