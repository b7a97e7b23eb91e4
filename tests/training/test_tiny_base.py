"""The tiny base, which the trainer's own tests use all along: here only what it must not learn from."""

from training.loader import Reader
from training.order import is_held_out
from training.tiny_base import make_base


def test_the_base_learns_from_no_held_out_image_and_none_of_its_texts(shards, tokenizer_folder, tmp_path, monkeypatch):
    read = set()
    for name in ("pixels", "text"):
        original = getattr(Reader, name)
        monkeypatch.setattr(Reader, name, lambda self, row, of=original: read.add(row["key"]) or of(self, row))
    options = {"text_steps": 3, "qformer_steps": 2}
    make_base(shards, tmp_path / "all", "tiny", tokenizer_folder, **options)
    every, held_out = set(read), {key for key in read if is_held_out(key, 0.4)}
    assert held_out and held_out != every
    read.clear()
    make_base(shards, tmp_path / "part", "tiny", tokenizer_folder, **options, held_out=0.4)
    assert read == every - held_out
