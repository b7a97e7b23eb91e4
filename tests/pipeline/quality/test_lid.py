import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.mix import LanguagesConfig
from pipeline.quality.lid import Identifier, IdentifierError, default_model, load_identifier


@pytest.fixture(scope="module")
def identifier():
    return load_identifier(None, "lid176")


@pytest.fixture(scope="module")
def contracts(identifier):
    return identifier.resolve(LanguagesConfig().targets)


def test_every_language_has_a_contract_and_the_nine_that_lid176_lacks_say_so(contracts):
    assert len(contracts) == 95
    unverified = {code for code, c in contracts.items() if c.check == "unverified"}
    assert len(unverified) == 9 and "hau_Latn" in unverified
    assert contracts["ind_Latn"].check == "group" and "ms" in contracts["ind_Latn"].accepted
    assert contracts["tha_Thai"].check == "checked"


def test_a_label_scheme_that_does_not_fit_stops_before_any_work():
    with pytest.raises(IdentifierError, match="label scheme is not lid218e"):
        Identifier(default_model(), "lid218e").resolve(["deu_Latn"])


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(IdentifierError, match=r"no language identification model .*model\.bin"):
        Identifier(path, "lid176").resolve(["deu_Latn"])
    path.write_bytes(b"not a model")
    with pytest.raises(IdentifierError, match="not a fastText model"):
        Identifier(path, "lid176").resolve(["deu_Latn"])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("deu_Latn", "Ein brauner Hund läuft am Strand entlang."),
        ("rus_Cyrl", "Коричневая собака бежит по пляжу."),
        ("arb_Arab", "كلب بني يجري على الشاطئ."),
        ("hin_Deva", "एक भूरा कुत्ता समुद्र तट पर दौड़ता है।"),
        ("zho_Hans", "一只棕色的狗在沙滩上奔跑。"),
        ("nob_Latn", "En brun hund løper på stranden."),
    ],
)
def test_good_text_lies_in_its_group_and_english_does_not(identifier, contracts, language, text):
    good, english = identifier.judge([text, "A brown dog runs along the beach."], contracts[language])
    assert good.label in contracts[language].accepted and good.group_probability > 0.5
    assert english.label == "en" and english.group_probability < 0.2 and english.english_probability > 0.5


def test_an_unverified_language_is_only_told_from_english(identifier, contracts):
    (judgement,) = identifier.judge(["A brown dog runs along the beach."], contracts["xho_Latn"])
    assert judgement.language_probability == judgement.group_probability == 0
    assert judgement.english_probability > 0.5


@settings(deadline=None)
@given(st.text(max_size=100) | st.just("\ud800\n\u202eabc"))
def test_no_text_makes_it_raise(text):
    identifier = load_identifier(None, "lid176")
    (judgement,) = identifier.judge([text], identifier.resolve(["deu_Latn"])["deu_Latn"])
    assert all(0 <= p <= 1 for p in judgement[1:])
