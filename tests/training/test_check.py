"""What would go wrong is found before training."""

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from transformers import AutoTokenizer

from pipeline import shards as writer
from pipeline.sources.images import look_of
from tests.training.test_loader import damage
from training.check import check, leaks, read_hashes
from training.loader import Reader, open_shards
from training.realign import main


@pytest.fixture
def tokenizer(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder)


def test_whole_shards_have_no_problems_and_cut_texts_are_told_by_language(shards, tokenizer):
    findings = check(open_shards(shards), tokenizer, max_prompt_tokens=128, max_target_tokens=1)
    assert findings.problems == []
    (targets,) = [note for note in findings.notes if "targets" in note]
    assert targets.startswith("48 of 48") and "longer than 1 tokens" in targets and "rus_Cyrl 100.0%" in targets
    assert any("leakage was not checked" in note for note in findings.notes)


def test_a_picture_that_does_not_decode_is_named(make_shards, tokenizer):
    opened = open_shards(make_shards())
    damage(opened, opened.rows[0])
    findings = check(opened, tokenizer, 128, 128)
    assert any(opened.rows[0]["key"] in problem for problem in findings.problems)


def test_wrong_tags_are_named(shards, tokenizer):
    opened = open_shards(shards)
    rows = [{**row} for row in opened.rows]
    rows[3]["language"] = "fra_Latn"
    findings = check(type(opened)(opened.folder, rows, opened.images, opened.digest), tokenizer, 128, 128)
    assert [p for p in findings.problems if "says language fra_Latn" in p and rows[3]["id"] in p]


def photograph(shift: int = 0) -> Image.Image:
    image = Image.new("RGB", (256, 256), (30, 60, 90))
    draw = ImageDraw.Draw(image)
    for i in range(12):
        x, y = (i * 67 + shift * 31) % 230, (i * i * 23 + shift * 57) % 230
        draw.ellipse((x, y, x + 20 + 9 * (i % 5), y + 50), fill=(20 * i, 255 - 17 * i, (90 * i) % 255))
    return image


def one_image_shards(folder: Path, image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    data = buffer.getvalue()
    sha = hashlib.sha256(data).hexdigest()
    described = {"image_sha256": sha, "image_format": "jpg", "image": "a.jpg", "image_width": 128, "image_height": 128}
    described |= {"licence": "", "credit": "", "bytes": data}
    text = {"id": "a:1@deu_Latn", "example": "a:1", "source": "a", "task": "captioning", "template": "t", "scores": {}}
    text |= dict.fromkeys(("language", "prompt_language", "target_language"), "deu_Latn") | {
        "prompt": "Was?",
        "target": "ein",
        "answer_origin": "",
    }
    folder.mkdir()
    parts = [writer.write_shard(folder / writer.shard_name(0), [(described, [text])], lambda image: image["bytes"])]
    index = writer.write_index(folder, parts)
    (folder / "manifest.json").write_text(
        json.dumps(writer.describe_shards(folder, "a", index, index.append_column("source", [["a"]])))
    )
    return str(folder / "*.tar")


def test_a_benchmarks_image_is_found_also_when_it_was_scaled_and_compressed(tmp_path):
    opened = open_shards(one_image_shards(tmp_path / "shards", photograph().resize((128, 128))))
    reader = Reader(opened.folder, 8)
    (tmp_path / "benchmark").mkdir()
    photograph(shift=3).save(tmp_path / "benchmark" / "other.png")
    assert list(leaks(opened, reader, read_hashes([tmp_path / "benchmark"]))) == []
    photograph().save(tmp_path / "benchmark" / "same.png")
    (found,) = leaks(opened, reader, read_hashes([tmp_path / "benchmark"]))
    assert "same.png" in found and opened.rows[0]["key"] in found
    (tmp_path / "hashes.txt").write_text(f"{look_of(photograph()):016x} picture 12\n")
    (found,) = leaks(opened, reader, read_hashes([tmp_path / "hashes.txt"]))
    assert "picture 12" in found


def test_a_list_that_holds_no_hashes_is_named(tmp_path):
    (tmp_path / "hashes.txt").write_text("0123456789abcdef a\nnonsense\n")
    with pytest.raises(ValueError, match=r"hashes\.txt, line 2: 'nonsense'"):
        read_hashes([tmp_path / "hashes.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no image"):
        read_hashes([tmp_path / "empty"])


def test_the_command_ends_with_1_when_a_benchmarks_image_would_be_trained_on(
    shards, tokenizer_folder, tmp_path, capsys
):
    opened = open_shards(shards)
    leak = tmp_path / "benchmark" / "red.png"
    leak.parent.mkdir()
    leak.write_bytes(Reader(opened.folder, 8).image_file(opened.rows[0]))
    command = ["--shards", shards, "--tokenizer", tokenizer_folder, "--out", tmp_path / "out", "--check"]
    with pytest.raises(SystemExit) as stopped:
        main([str(x) for x in (*command, "--benchmark-images", leak.parent)])
    assert stopped.value.code == 1
    assert f"is the benchmark image {leak}" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([str(x) for x in command])
    assert stopped.value.code == 0 and not (tmp_path / "out").exists()
