"""The glossary: what it answers, what it leaves alone, and how a bad file is refused."""

import csv

import pytest

from pipeline.glossaries.build import ABOUT, COLOURS, LEFT_OUT, NOUNS, NUMBERS, _left_out, coverage
from pipeline.glossary import FOLDER, GlossaryError, built_in, load_glossary, normalise_answer, read_file
from pipeline.languages import BY_NLLB, find_language
from pipeline.quality.script import script_share

FILES = sorted(FOLDER.glob("*.csv"))
KNOWN = {"yes", "no", *NUMBERS, *COLOURS, *NOUNS}


def write(tmp_path, text):
    path = tmp_path / "own.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_file_is_of_a_language_of_the_table_in_its_script_with_source_and_licence():
    assert len(FILES) == 90
    for path in FILES:
        assert path.stem in BY_NLLB
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines()):
            assert row["english"] in KNOWN and row["source"] and row["licence"], path
            assert script_share(row["text"], path.stem) >= 0.9, (path, row)
            assert row["text"] == row["text"].strip() and "\u200b" not in row["text"]


def test_its_page_says_what_the_files_hold():
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == ABOUT.format(table=coverage())


@pytest.mark.parametrize(
    ("code", "english", "text"),
    [
        ("de", "yes", "ja"), ("de", "two", "zwei"), ("de", "dog", "Hund"), ("ru", "red", "красный"), ("ar", "no", "لا"),
        ("ja", "yes", "はい"), ("ku", "yes", "erê"), ("hi", "blue", "नीला"), ("sw", "five", "tano"), ("ro", "six", "șase"),
        ("zh", "no", "否"), ("tr", "no", "hayır"),
    ],
)  # fmt: skip
def test_it_says_what_people_say(code, english, text):
    assert load_glossary(True).find(find_language(code).nllb, english).text == text


def test_what_a_reader_found_wrong_is_in_no_file():
    entries = built_in()
    for code in LEFT_OUT:
        language = find_language(code).nllb
        assert not {english for english in _left_out(code) if (language, english) in entries}, code


def test_words_that_change_with_the_gender_of_what_is_counted_are_left_out():
    glossary = load_glossary(True)
    assert glossary.find("deu_Latn", "one") is None  # ein, eine, eins
    assert glossary.find("rus_Cyrl", "two") is None  # два, две
    assert glossary.find("fin_Latn", "one") is not None


@pytest.mark.parametrize("answer", ["yes", "Yes", " YES. ", "yes!", "“yes”", "ｙｅｓ"])
def test_case_and_punctuation_do_not_matter(answer):
    assert load_glossary(True).find("nld_Latn", answer).text.casefold() == "ja"


def test_a_capital_is_kept_and_articles_are_passed_over():
    glossary = load_glossary(True)
    assert glossary.find("fra_Latn", "Yes").text == "Oui"
    assert glossary.find("fra_Latn", "a dog").text == glossary.find("fra_Latn", "the dog").text == "chien"


@pytest.mark.parametrize("answer", ["yes it is", "no one", "red dog", "", "?", "42"])
def test_it_answers_whole_answers_only(answer):
    assert load_glossary(True).find("deu_Latn", answer) is None


def test_normalising_keeps_what_tells_words_apart():
    assert normalise_answer("«Да».") == normalise_answer("да") == "да"
    assert normalise_answer("می\u200cرود") == normalise_answer("میرود")
    assert normalise_answer("e-mail") == "e-mail" and normalise_answer("né") != normalise_answer("ne")
    assert normalise_answer("... !") == ""


def test_a_file_of_the_user_goes_before_the_built_in_one(tmp_path):
    own = write(tmp_path, "language,english,text,source\nde,Yes,jawohl,our team\ngsw_X,,,\n".replace("gsw_X,,,\n", ""))
    entry = load_glossary(True, [own]).find("deu_Latn", "yes")
    assert (entry.text, entry.source) == ("jawohl", "our team")
    assert load_glossary(True, [own]).find("deu_Latn", "no").text == "nein"
    only_own = load_glossary(False, [own])
    assert len(only_own) == 1 and only_own.find("deu_Latn", "no") is None
    assert only_own.fingerprint != load_glossary(True).fingerprint != load_glossary(False).fingerprint == ""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("language,english,text\nxx,yes,ja\n", r"line 2: There is no language 'xx'"),
        ("language,english,text\nde,yes,ja\nde,no,nein\ndeu_Latn,Yes!,jo\n", r"line 4: 'Yes!' in German is there already, in line 2"),
        ("language,english,text\nde,yes, \n", r"line 2: text is empty"),
        ("language,english,text\nde,yes\n", r"line 2: text is empty"),
        ("language,english,text\nde,?!,ja\n", r"line 2: '\?!' has no word"),
        ("language,english,text\nen,yes,yes\n", r"line 2: the language is English"),
        ("english,text\nyes,ja\n", r"no column language"),
        ("", r"no column english, text, language"),
        ('language,english,text\nde,"yes,ja\n', r"not CSV"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_its_name_line_and_reason(tmp_path, text, message):
    with pytest.raises(GlossaryError, match=rf"own\.csv.*{message}"):
        read_file(write(tmp_path, text))


def test_a_missing_or_misencoded_file_is_refused(tmp_path):
    with pytest.raises(GlossaryError, match=r"nowhere\.csv can't be read"):
        read_file(tmp_path / "nowhere.csv")
    (tmp_path / "latin.csv").write_bytes("language,english,text\nde,green,grün\n".encode("latin-1"))
    with pytest.raises(GlossaryError, match="UTF-8"):
        read_file(tmp_path / "latin.csv")
