"""Is this the language that was asked for? On real sentences; the benchmark measures it."""

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.languages import LANGUAGES
from pipeline.mix import LanguagesConfig
from pipeline.quality.accept import read_policy
from pipeline.quality.characters import column
from pipeline.quality.learnt import read_learnt
from pipeline.quality.lid import OPTIONAL, FastText, Identifier, IdentifierError, default_model, load_identifier

TARGETS = LanguagesConfig().targets
GOOD = {
    "deu_Latn": "Ein brauner Hund läuft am Strand entlang.",
    "rus_Cyrl": "Коричневая собака бежит по пляжу.",
    "arb_Arab": "كلب بني يجري على الشاطئ.",
    "hin_Deva": "एक भूरा कुत्ता समुद्र तट पर दौड़ता है।",
    "zho_Hans": "一只棕色的狗在沙滩上奔跑。",
    "nob_Latn": "En brun hund løper på stranden.",
    "heb_Hebr": "כלב חום רץ לאורך החוף.",
    "swh_Latn": "Mbwa wa kahawia anakimbia ufukweni.",
    "hau_Latn": "Wani kare mai launin ruwan kasa yana gudu a bakin teku.",
    "yor_Latn": "Ajá aláwọ̀ ilẹ̀ kan ń sáré ní etí òkun.",
    "zul_Latn": "Inja ensundu igijima ogwini lolwandle.",
}


@pytest.fixture(scope="module")
def alone():
    """fastText without the others."""
    return load_identifier(None, "lid176", ())


def test_every_language_has_a_contract_with_what_is_lost(identifier, contracts):
    assert len(contracts) == 95
    assert set(identifier.known_labels()) >= {"de", "en"} and identifier.labels == "lid176"
    assert contracts["ind_Latn"].check == "group" and "zsm_Latn" in contracts["ind_Latn"].accepted
    assert contracts["tha_Thai"].check == "checked"
    assert "good text lost" in contracts["deu_Latn"].detail and "% of good text)" in contracts["dan_Latn"].detail
    assert sum(len(c.good_text_lost) for c in contracts.values()) > 3 * len(contracts)
    assert all(c.good_text_lost for code, c in contracts.items())
    assert {c.check for c in contracts.values()} == {"checked", "group"}
    assert set(contracts["hau_Latn"].identifiers) == {"py3langid", "pycld2", "cld3"}


def test_without_the_others_the_nine_that_lid176_lacks_are_unverified(alone):
    contracts = alone.resolve(TARGETS)
    unverified = {code for code, c in contracts.items() if c.check == "unverified"}
    assert len(unverified) == 9 and "hau_Latn" in unverified
    assert not any(c.good_text_lost for c in contracts.values())  # it was measured with the others
    (judgement,) = alone.judge(["A brown dog runs along the beach."], contracts["xho_Latn"])
    assert judgement.language_probability == judgement.group_probability == 0
    limit = read_policy().checks["english"].limits(["xho_Latn"], ["captioning"])[0, 0, 2]
    assert judgement.label == "eng_Latn" and judgement.english_probability > limit


def test_groups_are_mutual(contracts):
    for code, contract in contracts.items():
        for other in contract.accepted:
            if other in contracts:
                assert code in contracts[other].accepted, (code, other)


def test_a_label_scheme_that_does_not_fit_stops_before_any_work():
    for scheme in ("lid218e", "glotlid", "openlid"):
        with pytest.raises(IdentifierError, match=f"label scheme is not {scheme}"):
            load_identifier(default_model(), scheme).resolve(["deu_Latn"])


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path):
    path = tmp_path / "model.bin"
    with pytest.raises(IdentifierError, match=r"no language identification model .*model\.bin"):
        load_identifier(path, "lid176").resolve(["deu_Latn"])
    path.write_bytes(b"not a model")
    with pytest.raises(IdentifierError, match="not a fastText model"):
        Identifier((FastText(path),), read_learnt()).resolve(["deu_Latn"])


def test_an_identifier_that_is_unknown_or_missing_is_named(monkeypatch):
    with pytest.raises(IdentifierError, match="no identifier 'guesser'"):
        load_identifier(None, "lid176", ("guesser",))
    monkeypatch.setitem(OPTIONAL, "nowhere", (OPTIONAL["cld3"][0], "no_such_module"))
    with pytest.raises(IdentifierError, match="nowhere is not installed"):
        load_identifier(None, "lid176", ("nowhere",))


def test_labels_of_every_identifier_are_labels_that_it_has(identifier):
    for voter in identifier.voters:
        known = voter.known_labels()
        for language in LANGUAGES:
            label = language.labels[voter.column]
            assert label is None or known is None or label in known, (voter.column, language.nllb)


@pytest.mark.parametrize("language", GOOD)
def test_good_text_lies_in_its_group_and_english_does_not(identifier, contracts, language):
    good, english = identifier.judge([GOOD[language], "A brown dog runs along the beach."], contracts[language])
    assert good.label in contracts[language].accepted and good.group_probability > 0.5
    assert english.label == "eng_Latn" and english.group_probability < 0.01 and english.english_probability > 0.9


@pytest.mark.parametrize("language", GOOD)
def test_text_of_another_language_does_not_pass_for_it(identifier, contracts, language):
    others = [text for code, text in GOOD.items() if code not in contracts[language].accepted]
    assert all(j.group_probability < 0.1 for j in identifier.judge(others, contracts[language]))


def test_probabilities_do_not_depend_on_the_batch(identifier):
    texts = [*GOOD.values(), "", "7", "ok", "DIE KATZE SCHLÄFT", "a\x00b", "👩‍👩‍👧‍👦"]
    together = identifier.probabilities(column(texts))
    assert together.tolist() == [identifier.probabilities(column([t]))[0].tolist() for t in texts]
    assert (
        together.tolist() == identifier.probabilities(pa.chunked_array([column(texts[:3]), column(texts[3:])])).tolist()
    )


@settings(deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
@example(
    [
        "\ud800\n\u202eabc",
        "x" * 1_000_000,
        "\ufdd0\U0010ffff a",
        "\x00\x01 hello there",
        "ﷺ",
        "<html lang=de>",
        "\u0301\u0301",
    ]
)
def test_no_text_makes_it_raise(texts):
    identifier = load_identifier(None)
    judgements = identifier.judge(texts, identifier.resolve(["deu_Latn"])["deu_Latn"])
    assert all(0 <= p <= 1 for j in judgements for p in j[1:])
