"""Finished shards go to a URL and verify there; growing copies only what changed."""

import io

import fsspec
import pytest
from PIL import Image

from pipeline import files, shards
from pipeline.shards import main
from pipeline.storage import StorageError, open_folder
from pipeline.verify import verify

URL = "memory://published"


@pytest.fixture(autouse=True)
def clean():
    yield
    filesystem, root = fsspec.core.url_to_fs(URL)
    if filesystem.exists(root):
        filesystem.rm(root, recursive=True)


@pytest.fixture
def build(tmp_path):
    import hashlib

    def build(name, images):
        contents = {}
        for number in range(images):
            buffer = io.BytesIO()
            Image.new("RGB", (9, 9), (number, 0, 0)).save(buffer, "PNG")
            sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
            image = {"image_sha256": sha256, "image_format": "png", "image": "x", "image_width": 9, "image_height": 9}
            text = dict.fromkeys(shards.TEXT_COLUMNS, "x") | {"id": sha256, "scores": None}
            row = (image | {"licence": "", "credit": "", "data": buffer.getvalue()}, [text])
            contents.setdefault(shards.shard_of(sha256, 4), []).append(row)
        folder = tmp_path / name
        parts = [
            shards.write_shard(
                folder / shards.shard_name(n),
                sorted(contents[n], key=lambda r: r[0]["image_sha256"]),
                lambda i: i["data"],
            )
            for n in sorted(contents)
        ]
        index = shards.write_index(folder, parts)
        manifest = shards.describe_shards(folder, name, index, index.append_column("source", index["task"]))
        files.write_json(folder / "manifest.json", manifest)
        return folder

    return build


def test_published_shards_verify_at_their_url_and_growth_copies_only_what_changed(build, capsys, tmp_path):
    few, more = build("few", 11), build("more", 12)
    same = [p.name for p in few.glob("*.tar") if (more / p.name).read_bytes() == p.read_bytes()]
    assert len(same) >= 2
    assert main(["publish", str(few), URL]) == 0
    assert list(verify(open_folder(URL, tmp_path / "cache"))) == []
    capsys.readouterr()
    assert main(["publish", str(more), URL]) == 0
    assert f"{len(same)} there already" in capsys.readouterr().out
    assert list(verify(open_folder(URL, tmp_path / "cache"))) == []


def test_a_fault_at_the_url_is_named(build, tmp_path):
    folder = build("a", 5)
    main(["publish", str(folder), URL])
    name = next(p.name for p in folder.glob("*.tar"))
    filesystem, root = fsspec.core.url_to_fs(URL)
    filesystem.pipe_file(f"{root}/{name}", b"nothing")
    assert any(name in problem and "sha256 differs" in problem for problem in verify(open_folder(URL, tmp_path)))


def test_unfinished_shards_are_not_published(build):
    folder = build("a", 5)
    (folder / "manifest.json").unlink()
    with pytest.raises(StorageError, match="run the flow again"):
        from pipeline.publish import publish

        publish(folder, URL)
