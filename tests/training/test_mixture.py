"""A mixture says what share of training each task and language gets."""

import pytest

from training.mixture import Mixture, cells_of, read_mixture

TASKS = ["captioning"] * 80 + ["vqa"] * 20
LANGUAGES = ["deu_Latn"] * 64 + ["yor_Latn"] * 16 + ["deu_Latn"] * 20


def shares_of(mixture: Mixture) -> dict[tuple[str, str], float]:
    cells, shares = cells_of(TASKS, LANGUAGES, mixture)
    return {(TASKS[i], LANGUAGES[i]): round(float(shares[cell]), 6) for i, cell in enumerate(cells)}


def test_without_temperature_a_cell_gets_what_it_has():
    assert shares_of(Mixture()) == {
        ("captioning", "deu_Latn"): 0.64,
        ("captioning", "yor_Latn"): 0.16,
        ("vqa", "deu_Latn"): 0.2,
    }


def test_temperature_two_takes_square_roots_of_tasks_and_of_languages_within_a_task():
    shares = shares_of(Mixture(language_temperature=2, task_temperature=2))
    # sqrt(80) : sqrt(20) = 2 : 1, and within captioning sqrt(64) : sqrt(16) = 2 : 1
    assert shares == {
        ("captioning", "deu_Latn"): pytest.approx(4 / 9, abs=1e-6),
        ("captioning", "yor_Latn"): pytest.approx(2 / 9, abs=1e-6),
        ("vqa", "deu_Latn"): pytest.approx(1 / 3, abs=1e-6),
    }


def test_factors_multiply_and_zero_leaves_out():
    shares = shares_of(Mixture(languages={"yor_Latn": 4}, tasks={"vqa": 0}))
    assert shares == {("captioning", "deu_Latn"): 0.5, ("captioning", "yor_Latn"): 0.5, ("vqa", "deu_Latn"): 0}


def test_a_flag_overrides_the_file(tmp_path):
    path = tmp_path / "mixture.yaml"
    path.write_text("language_temperature: 3\ntasks: {vqa: 2}\n")
    assert read_mixture(path, None, None) == Mixture(language_temperature=3, tasks={"vqa": 2})
    assert read_mixture(path, 1.5, None).language_temperature == 1.5
    assert read_mixture(None, None, None).leaves_all_as_it_is


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("language_temperature: 0.5", r"language_temperature: .*greater than or equal to 1"),
        ("langauge_temperature: 2", r"langauge_temperature: Extra inputs"),
        ("- 1", "must hold names and values"),
        ("a: [", "not YAML"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path, text, said):
    path = tmp_path / "mixture.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said) as raised:
        read_mixture(path, None, None)
    assert str(path) in str(raised.value)


def test_a_name_that_no_sample_has_is_refused():
    with pytest.raises(ValueError, match=r"language fra_Latn.*deu_Latn, yor_Latn"):
        shares_of(Mixture(languages={"fra_Latn": 2}))
    with pytest.raises(ValueError, match="nothing is left"):
        shares_of(Mixture(tasks={"vqa": 0, "captioning": 0}))
