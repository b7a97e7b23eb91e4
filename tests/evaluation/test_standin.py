"""The stand-in holds only images that a run has not seen, and the demo's table says what it is worth."""

import json

import pytest

from evaluation import demo, standin
from evaluation.benchmarks import READERS, read
from pipeline import files
from pipeline.shards import image_key
from training.order import is_held_out


def test_held_out_are_the_images_that_the_trainer_kept_from_training():
    names = standin.read_names()
    kept = standin.held_out_names(names, 0.1)
    keys = {emoji: image_key(files.sha256_file(standin.image_of(emoji))) for emoji in names}
    assert 2 <= len(kept) < len(names) / 4
    assert all(is_held_out(keys[emoji], 0.1) == (emoji in kept) for emoji in names)
    assert standin.held_out_names(names, 0.0) == {} and standin.held_out_names(names, 1.0) == names


def test_no_picture_of_a_trained_image_is_in_the_stand_in(tmp_path):
    """Every file of every benchmark is one of the held-out images, by its pixels."""
    kept = standin.held_out_names(standin.read_names(), 0.1)
    codes = standin.write(tmp_path, kept, ["eng_Latn", "deu_Latn"])
    allowed = {standin._jpeg(standin.image_of(emoji)) for emoji in kept}
    for name in READERS:
        items = read(name, tmp_path, codes[name])
        assert items and {path.read_bytes() for item in items for path in item.images} <= allowed, name


def test_the_demo_says_whether_the_images_were_seen(model, tmp_path, monkeypatch, capsys):
    run = tmp_path / "training"
    run.mkdir()
    monkeypatch.setattr(demo, "load", lambda folder: model)
    options = ["--training", str(run), "--images", "2", "--benchmark", "marvl", "xvnli"]
    for fraction, said in ((0.1, "was never trained on"), (0.0, "WAS TRAINED ON")):
        measured = {"loss_right_images": 1.25, "loss_shuffled_images": 1.5} if fraction else None
        files.write_json(run / "result.json", {"config": {"held_out": fraction}, "held_out_images": measured})
        out = tmp_path / str(fraction)
        demo.main([*options, "--out", str(out)])
        table = capsys.readouterr().out
        assert said in table and "images exchanged" in table and "MaRVL" in table
        assert ("1.250, with images exchanged 1.500" in table) == (measured is not None)
        report = json.loads((out / "report.json").read_text())
        assert said in report["remark"]
        for result in report["benchmarks"].values():
            assert set(result["exchanged"]) == set(result["by_language"]) == set(result["constant"])
    names = standin.read_names()
    assert len(demo.languages_of("xm3600", names, run)) > 80 and len(demo.languages_of("marvl", names, run)) == 5
    files.write_json(run / "result.json", {"config": {"languages": ["fra_Latn", "eng_Latn"]}})
    assert set(demo.languages_of("xm3600", names, run)) == {"eng_Latn", "fra_Latn"}
    with pytest.raises(SystemExit, match=r"result\.json"):
        demo.main(["--training", str(tmp_path / "none"), "--out", str(tmp_path / "x")])
