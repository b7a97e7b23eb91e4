"""Samples come out of shards as they went in, and whatever is wrong is named with what to do."""

import json
import threading
from pathlib import Path

import fsspec
import pytest
import torch
import webdataset as wds
from transformers import AutoTokenizer

from model.images import normalise
from model.inputs import Layout
from training.loader import Collator, Reader, ShardError, estimate_lengths, open_shards, prefetch


def test_every_text_and_image_is_read_back(shards):
    opened = open_shards(shards)
    reader = Reader(opened.folder, image_size=8)
    assert len(opened.rows) == 48 and opened.images.max() == 7
    seen = {reader.text(row)["target"] for row in opened.rows}
    assert {"red", "schwarz", "зелёный"} <= seen
    red = next(row for row in opened.rows if row["id"] == "squares:red-vqa@deu_Latn")
    assert reader.pixels(red)[:, 4, 4].tolist() == [255, 0, 0]
    assert reader.image_file(red).startswith(b"\x89PNG")


def test_webdataset_reads_the_same(shards):
    opened = open_shards(shards)
    files = sorted(str(path) for path in opened.folder.glob("*.tar"))
    texts = [
        text["id"]
        for sample in wds.WebDataset(files, shardshuffle=False)
        for text in json.loads(sample["json"])["texts"]
    ]
    assert texts == [row["id"] for row in opened.rows]


def test_a_selection_changes_the_digest_and_nothing_else_does(shards):
    assert open_shards(shards).digest == open_shards(shards).digest
    german = open_shards(shards, ["deu_Latn"])
    assert {row["language"] for row in german.rows} == {"deu_Latn"}
    assert german.digest != open_shards(shards).digest
    with pytest.raises(ShardError, match="fra_Latn"):
        open_shards(shards, ["fra_Latn"])


@pytest.mark.parametrize("name", ["manifest.json", "index.parquet", "shard-00001.tar"])
def test_a_missing_file_is_named(make_shards, name):
    shards = make_shards()
    (Path(shards).parent / name).unlink()
    with pytest.raises(ShardError, match=rf"{name}.*(copy|Run|build)"):
        open_shards(shards)


def test_no_shard_at_all_is_said_with_the_remedy(tmp_path):
    with pytest.raises(ShardError, match="translate_mix"):
        open_shards(str(tmp_path / "*.tar"))


def test_a_truncated_shard_is_named(make_shards):
    shards = make_shards()
    path = Path(shards).parent / "shard-00000.tar"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(ShardError, match=r"shard-00000\.tar has 700 bytes.*truncated"):
        open_shards(shards)


def test_an_index_of_another_build_is_refused(make_shards):
    shards = make_shards()
    other = make_shards("other", colours=5)
    index = Path(shards).parent / "index.parquet"
    index.write_bytes((Path(other).parent / "index.parquet").read_bytes())
    with pytest.raises(ShardError, match=r"index\.parquet.*same build"):
        open_shards(shards)


def test_an_image_that_does_not_decode_stops_with_its_name_and_is_never_replaced(make_shards):
    shards = make_shards()
    opened = open_shards(shards)
    row = opened.rows[0]
    path = opened.folder / row["shard"]
    data = bytearray(path.read_bytes())
    data[row["image_offset"] : row["image_offset"] + row["image_bytes"]] = b"\0" * row["image_bytes"]
    path.write_bytes(data)
    with pytest.raises(ShardError, match=rf"{row['key']}\.png in .*{row['shard']}.*build the shards again"):
        Reader(opened.folder, 8).pixels(row)


def test_a_batch_holds_each_image_once_and_counts_bytes_of_what_is_left_of_cut_targets(shards, tokenizer_folder):
    opened = open_shards(shards)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    layout = Layout(is_encoder_decoder=True, placeholder=len(tokenizer), query_tokens=4, pad=1, eos=2)
    collate = Collator(Reader(opened.folder, 8), tokenizer, layout, max_prompt_tokens=32, max_target_tokens=2)
    rows = opened.rows[:6] + opened.rows[6:8]
    batch = collate(rows)
    assert batch.pixel_values.shape == (2, 3, 8, 8)
    assert batch.image_of_text.tolist() == [0] * 6 + [1] * 2
    for text, row, size in zip(batch.tokenized, rows, batch.target_bytes, strict=True):
        target = Reader(opened.folder, 8).text(row)["target"]
        assert size < len(target.encode()) if text.target_was_cut else size == len(target.encode())
    exchanged = collate(rows, [rows[-1]] * len(rows))
    assert torch.equal(exchanged.pixel_values[0], batch.pixel_values[1])
    assert torch.equal(exchanged.text["labels"], batch.text["labels"])


def test_pixels_are_normalised_as_clip_does():
    black = normalise(torch.zeros(1, 3, 1, 1, dtype=torch.uint8)).flatten()
    torch.testing.assert_close(black, torch.tensor([-1.7923, -1.7521, -1.4802]), rtol=1e-3, atol=1e-3)


def damage(opened, row) -> None:
    """Overwrite the picture of `row` where it stands."""
    path = opened.folder / row["shard"]
    data = bytearray(path.read_bytes())
    data[row["image_offset"] : row["image_offset"] + row["image_bytes"]] = b"\0" * row["image_bytes"]
    path.write_bytes(data)


def collator(opened, tokenizer_folder) -> Collator:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    layout = Layout(is_encoder_decoder=True, placeholder=len(tokenizer), query_tokens=4, pad=1, eos=2)
    return Collator(Reader(opened.folder, 8), tokenizer, layout, max_prompt_tokens=32, max_target_tokens=32)


def test_texts_of_a_bad_picture_are_left_out_and_nothing_takes_their_place(make_shards, tokenizer_folder):
    opened = open_shards(make_shards())
    damage(opened, opened.rows[6])
    collate = collator(opened, tokenizer_folder)
    batch, without = collate(opened.rows[:18]), collate(opened.rows[:6] + opened.rows[12:18])
    assert batch.left_out == [6, 7, 8, 9, 10, 11] and without.left_out == []
    assert batch.rows == without.rows
    assert torch.equal(batch.pixel_values, without.pixel_values)
    assert batch.image_of_text.tolist() == without.image_of_text.tolist()
    assert all(torch.equal(batch.text[name], without.text[name]) for name in batch.text)
    nothing = collate(opened.rows[6:12])
    assert nothing.target_tokens == 0 and nothing.rows == [] and len(nothing.left_out) == 6


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_no_number_of_workers_changes_the_batches_or_their_order(workers, shards, tokenizer_folder):
    opened = open_shards(shards)
    collate = collator(opened, tokenizer_folder)
    asked = [list(range(start, start + 5)) for start in range(0, 40, 5)]
    made = list(prefetch(iter(asked), lambda chosen: collate([opened.rows[i] for i in chosen]), workers))
    assert [chosen for chosen, _ in made] == asked
    for chosen, batch in made:
        expected = collate([opened.rows[i] for i in chosen])
        assert batch.rows == expected.rows and torch.equal(batch.pixel_values, expected.pixel_values)


def test_an_error_in_a_worker_comes_out_at_its_batch_and_the_workers_stop():
    def make(number):
        if number == 3:
            raise ShardError("shard-00003.tar is truncated")
        return number

    made = prefetch(iter(range(100)), make, workers=2)
    assert [next(made)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ShardError, match="truncated"):
        next(made)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_lengths_are_estimated_by_language(shards, tokenizer_folder):
    opened = open_shards(shards)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    reader = Reader(opened.folder, 8)
    lengths = estimate_lengths(opened, reader, tokenizer)
    texts = [reader.text(row) for row in opened.rows]
    true = [len(tokenizer(f"{t['prompt']} {t['target']}", add_special_tokens=False)["input_ids"]) for t in texts]
    assert sum(lengths) == pytest.approx(sum(true), rel=0.05)
    assert (lengths == estimate_lengths(opened, reader, tokenizer)).all()


def test_shards_at_a_url_are_the_local_ones_read_through_the_cache(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYALIGN_CACHE", str(tmp_path))
    local = open_shards(shards)
    filesystem = fsspec.filesystem("memory")
    for path in local.folder.iterdir():
        filesystem.pipe_file(f"/remote/{path.name}", path.read_bytes())
    try:
        remote = open_shards("memory://remote/*.tar")
        assert remote.digest == local.digest and remote.rows == local.rows
        assert not list(tmp_path.glob("*.tar"))  # nothing is copied before it is touched
        reader, own = Reader(remote.folder, 8), Reader(local.folder, 8)
        for row in remote.rows[::5]:
            assert reader.text(row) == own.text(row) and torch.equal(reader.pixels(row), own.pixels(row))
        assert len(list(tmp_path.glob("*.tar"))) == 2
        filesystem.pipe_file("/remote/shard-00001.tar", b"short")
        with pytest.raises(ShardError, match=r"memory://remote/shard-00001\.tar has 5 bytes"):
            open_shards("memory://remote/*.tar")
        with pytest.raises(ShardError, match="No shard matches"):
            open_shards("memory://nowhere/*.tar")
    finally:
        filesystem.rm("/remote", recursive=True)
    assert open_shards(f"file://{shards}").digest == local.digest
