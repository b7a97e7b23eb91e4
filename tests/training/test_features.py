"""Features are the encoder's own output, of this encoder and these pictures or refused, and training on them is training."""

import json
import os
from pathlib import Path

import pytest
import torch

from model import assemble
from model.loss import encode_images
from training import features
from training.features import encoder_of, main, open_features, plan
from training.loader import BadPicture, Reader, ShardError, normalise, open_shards
from training.options import arguments
from training.realign import realign


@pytest.fixture(scope="module")
def model(base):
    return assemble.load(base, assemble.load_tokenizer(base)).eval()


@pytest.fixture(scope="module")
def written(shards, base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    write(shards, base, folder)
    return folder


def write(shards, base, folder, *more):
    main(["--shards", shards, "--base", str(base), "--features", str(folder), "--device", "cpu", "--yes", *more])


def test_the_size_is_told_and_nothing_written_without_a_yes(shards, base, tmp_path, capsys):
    main(["--shards", shards, "--base", str(base), "--features", str(tmp_path / "f"), "--device", "cpu"])
    said = capsys.readouterr().out
    assert "8 images" in said and "GB" in said and "--yes" in said
    assert not (tmp_path / "f").exists()


def test_they_are_what_the_encoder_gives(shards, written, model):
    opened = open_shards(shards)
    reader = Reader(opened.folder, model.config.vision_config.image_size)
    found = open_features(written, opened, encoder_of(model, torch.float32))
    for row in opened.rows[::6]:
        own = encode_images(model, normalise(reader.pixels(row)[None]))[0]
        torch.testing.assert_close(found.states(row), own, rtol=1e-4, atol=1e-5)


def test_training_on_them_is_training_without_them(shards, base, written, tmp_path):
    losses = []
    for name, more in (("pixels", []), ("features", ["--features", str(written)])):
        fixed = ["--shards", shards, "--base", str(base), "--device", "cpu", "--batch-size", "12", "--max-steps", "4"]
        result = realign(arguments([*fixed, "--eval-samples", "24", "--out", str(tmp_path / name), *more]))
        log = (tmp_path / name / "train_log.jsonl").read_text().splitlines()
        losses.append([json.loads(row)["loss"] for row in log] + [result["loss_shuffled_images"]])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    with pytest.raises(ValueError, match="features"):  # a run does not change its numbers half-way
        realign(arguments([*fixed, "--eval-samples", "24", "--out", str(tmp_path / "features"), "--resume"]))


def test_no_picture_is_decoded_in_training_on_features(shards, base, written, tmp_path, monkeypatch):
    opened = open_shards(shards)
    model = assemble.load(base, assemble.load_tokenizer(base))
    found = open_features(written, opened, encoder_of(model, torch.float32))
    monkeypatch.setattr(Reader, "_decode", None)
    assert found.states(opened.rows[0]).shape == tuple(encoder_of(model, torch.float32)["shape"])


def test_features_of_another_encoder_or_type_are_refused(shards, written, model):
    opened = open_shards(shards)
    with pytest.raises(ShardError, match=r"another encoder: dtype.*Write them again"):
        open_features(written, opened, encoder_of(model, torch.bfloat16))
    bias = next(model.vision_model.parameters())
    kept = bias.detach().clone()
    try:
        with torch.no_grad():
            bias.view(-1)[-1] += 1
        with pytest.raises(ShardError, match="another encoder: weights"):
            open_features(written, opened, encoder_of(model, torch.float32))
    finally:
        with torch.no_grad():
            bias.copy_(kept)
    with pytest.raises(ShardError, match="no finished features"):
        open_features(written / "nowhere", opened, encoder_of(model, torch.float32))


def test_only_what_is_missing_is_written_and_other_shards_need_others(shards, base, written, model, make_shards):
    opened = open_shards(shards)
    first, second = plan(opened, encoder_of(model, torch.float32))
    before = (written / second.file).stat().st_mtime_ns
    os.remove(written / first.file)
    with pytest.raises(ShardError, match=r"no features of shard-00000\.tar"):
        open_features(written, opened, encoder_of(model, torch.float32))
    write(shards, base, written)
    assert (written / first.file).exists() and (written / second.file).stat().st_mtime_ns == before
    with pytest.raises(ShardError, match="only what is missing"):
        open_features(written, open_shards(make_shards("other", colours=5)), encoder_of(model, torch.float32))


def test_bfloat16_comes_back_as_it_was(shards, base, model, tmp_path):
    write(shards, base, tmp_path, "--precision", "bfloat16")
    opened = open_shards(shards)
    found = open_features(tmp_path, opened, encoder_of(model, torch.bfloat16))
    row = opened.rows[0]
    assert found.states(row).dtype == torch.bfloat16
    reader = Reader(opened.folder, model.config.vision_config.image_size)
    own = encode_images(model, normalise(reader.pixels(row)[None]))[0]
    torch.testing.assert_close(found.states(row).float(), own, rtol=0.1, atol=0.1)


def test_a_picture_that_cannot_be_decoded_is_known_and_never_zeros(make_shards, base, model, tmp_path):
    shards = make_shards()
    opened = open_shards(shards)
    row = opened.rows[0]
    path = opened.folder / row["shard"]
    data = bytearray(path.read_bytes())
    data[row["image_offset"] : row["image_offset"] + row["image_bytes"]] = b"\0" * row["image_bytes"]
    path.write_bytes(data)
    write(shards, base, tmp_path / "f")
    found = open_features(tmp_path / "f", opened, encoder_of(model, torch.float32))
    with pytest.raises(BadPicture):
        found.states(row)


def test_a_killed_run_leaves_no_half_file(shards, base, model, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(features, "_as_numpy", die)
    with pytest.raises(KeyboardInterrupt):
        write(shards, base, tmp_path)
    assert not list(tmp_path.glob("*.npy")) and not (tmp_path / "manifest.json").exists()
