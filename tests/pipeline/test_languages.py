"""The one table of languages, held against what others say about them."""

import csv
import re
from pathlib import Path

import pytest
import regex
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES

from pipeline.languages import BY_NLLB, ENGLISH, LANGUAGES, find_language, read_languages
from pipeline.quality.lid import load_identifier
from pipeline.quality.script import letters_of

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_96_languages_with_nllb_codes_that_nllb_has():
    assert len(LANGUAGES) == 96
    assert {x.nllb for x in LANGUAGES} <= set(FAIRSEQ_LANGUAGE_CODES)
    assert all(x.nllb.endswith(f"_{x.script}") for x in LANGUAGES)


def test_chinese_is_simplified_and_kurdish_is_kurmanji():
    assert find_language("zh").nllb == "zho_Hans"
    assert find_language("ku").nllb == "kmr_Latn"


def test_own_names_are_written_in_the_language_s_own_script():
    for language in LANGUAGES:
        letters = regex.findall(r"\p{L}", language.own_name)
        assert letters, language
        assert all(letters_of(language.script)[ord(x)] for x in letters), language


def test_right_to_left_is_exactly_the_arabic_and_hebrew_scripts():
    assert {x.script for x in LANGUAGES if x.is_right_to_left} == {"Arab", "Hebr"}


def test_shares_are_percentages_of_a_whole():
    assert sum(x.mc4_percent for x in LANGUAGES) == pytest.approx(100, abs=0.01)
    assert sum(x.mt5_percent for x in LANGUAGES) == pytest.approx(100, abs=0.01)
    assert max(LANGUAGES, key=lambda x: x.mc4_percent).nllb == ENGLISH


def test_the_labels_of_lid176_are_labels_of_the_model_that_the_package_ships():
    known = load_identifier(None, "lid176").known_labels()
    assert len(known) == 176
    for language in LANGUAGES:
        label = language.labels["lid176"]
        assert label is None or label in known, language
        assert label not in language.confusable
    without = {x.code for x in LANGUAGES if x.labels["lid176"] is None}
    assert without == set(["ha", "ig", "mi", "ny", "sm", "sn", "st", "xh", "zu"])


def test_any_code_finds_the_language_and_an_unknown_one_gets_near_codes():
    for code in ("he", "iw", "heb_Hebr"):
        assert find_language(code).name == "Hebrew"
    with pytest.raises(ValueError, match="deu_Latn"):
        find_language("deu")


def test_a_damaged_table_is_reported_with_its_line(tmp_path):
    rows = list(csv.reader((ROOT / "pipeline" / "languages.csv").read_text(encoding="utf-8").splitlines()))
    for change, message in (
        (("mc4_percent", "x"), "line 3"),
        (("nllb", rows[1][rows[0].index("nllb")]), "line 3.*twice"),
    ):
        copy = [list(r) for r in rows]
        copy[2][rows[0].index(change[0])] = change[1]
        path = tmp_path / "languages.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(copy)
        with pytest.raises(ValueError, match=message):
            read_languages(path)


def test_no_other_file_of_the_code_holds_a_language_list():
    """A line with three or more NLLB codes, or a file with more than a dozen of them, is a second list.

    The one exception is data, not code: evaluation/benchmarks.json and published.json hold each benchmark's own codes, as its owner writes them.
    """
    codes = re.compile("|".join(BY_NLLB))
    for package in ("pipeline", "flows", "model", "training", "evaluation", "data_cards"):
        for path in (ROOT / package).rglob("*.py"):
            found = [
                line for line in path.read_text(encoding="utf-8").splitlines() if len(set(codes.findall(line))) >= 3
            ]
            assert not found, f"{path}: {found[0]}"
            assert len(set(codes.findall(path.read_text(encoding="utf-8")))) <= 12, path
