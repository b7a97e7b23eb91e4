"""Shards: equal bytes, readable by the tools that people have, and a `verify` that finds every fault."""

import io
import json
import tarfile

import pyarrow as pa
import pytest
import webdataset as wds
from PIL import Image

from pipeline import files, shards
from pipeline.corpus import EXAMPLES, SAMPLES
from pipeline.shards import main
from pipeline.verify import verify


def picture(number, kind="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (10 + number, 8), (number, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def build(tmp_path):
    import hashlib

    pictures = [picture(i, ("PNG", "JPEG")[i % 2]) for i in range(12)]
    hashes = [hashlib.sha256(p).hexdigest() for p in pictures]
    bytes_of = dict(zip(hashes, pictures, strict=True))
    examples = [
        {
            "id": f"s:{i}",
            "source": "s",
            "task": "captioning",
            "image": f"{i}",
            "image_sha256": h,
            "image_format": ("png", "jpg")[i % 2],
        }
        | {"image_width": 10 + i, "image_height": 8, "fields": [], "licence": "CC0-1.0", "credit": ""}
        for i, h in enumerate(hashes)
    ]
    samples = [
        {
            "id": f"s:{i}@{x}",
            "example": f"s:{i}",
            "source": "s",
            "task": "captioning",
            "language": x,
            "prompt_language": "eng_Latn",
        }
        | {
            "target_language": x,
            "template": "t",
            "prompt": "Caption:",
            "target": f"{i} كلب 犬",
            "answer_origin": "",
            "english": "dog",
            "image": f"{i}",
        }
        | {"image_sha256": h, "scores": None}
        for i, h in enumerate(hashes)
        for x in ("arb_Arab", "jpn_Jpan")
    ]

    def build(name, count=3, order=1, only=12):
        folder = tmp_path / name
        example_table = pa.Table.from_pylist(examples[:only][::order], schema=EXAMPLES)
        sample_table = pa.Table.from_pylist([s for s in samples if int(s["image"]) < only][::order], schema=SAMPLES)
        groups = shards.group_by_shard(sample_table, example_table, count)
        parts = [
            shards.write_shard(folder / shards.shard_name(n), content, lambda image: bytes_of[image["image_sha256"]])
            for n, content in list(groups.items())[::order]
            if content
        ]
        index = shards.write_index(folder, sorted(parts, key=lambda p: p["shard"][0].as_py()))
        files.write_json(folder / "manifest.json", shards.describe_shards(folder, "test", index, sample_table))
        return folder

    return build


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_equal_samples_give_equal_bytes_in_whatever_order_they_come(build):
    assert contents(build("a")) == contents(build("b", order=-1))


def test_growth_moves_no_image_to_another_shard(build):
    where = [
        {r["key"]: r["shard"] for r in files.read_table(build(name, only=only) / "index.parquet").to_pylist()}
        for name, only in (("few", 5), ("all", 12))
    ]
    assert where[0].items() <= where[1].items() and len(where[1]) == 12


def test_growth_leaves_the_bytes_of_other_shards_as_they_are(build):
    few, more = build("few", count=4, only=11), build("more", count=4, only=12)
    new = {r["key"]: r["shard"] for r in files.read_table(more / "index.parquet").to_pylist()}
    old = {r["key"] for r in files.read_table(few / "index.parquet").to_pylist()}
    (grown,) = {shard for key, shard in new.items() if key not in old}
    untouched = {name for name in contents(few) if name.endswith(".tar")} - {grown}
    assert len(untouched) >= 2
    for name in untouched:
        assert (few / name).read_bytes() == (more / name).read_bytes()


def test_webdataset_and_tar_read_them_as_they_are(build):
    folder = build("a")
    urls = [str(p) for p in sorted(folder.glob("*.tar"))]
    dataset = wds.WebDataset(urls, shardshuffle=False).decode("pil").to_tuple("png;jpg", "json")
    read = [(image.size, description["texts"]) for image, description in dataset]
    assert len(read) == 12
    assert all(len(texts) == 2 and texts[0]["target"].endswith("كلب 犬") for _, texts in read)
    with tarfile.open(urls[0]) as tar:
        names = tar.getnames()
    assert [n.split(".")[0] for n in names[::2]] == [n.split(".")[0] for n in names[1::2]]


def test_the_index_points_at_the_data(build):
    folder = build("a")
    rows = files.read_table(folder / "index.parquet").to_pylist()
    assert len(rows) == 24
    for row in rows:
        data, description, text = shards.read_sample(folder, row)
        assert Image.open(io.BytesIO(data)).size == (description["width"], description["height"])
        assert text["id"] == row["id"] and len(text["target"]) == row["target_characters"]


def test_headers_carry_nothing_of_the_machine(build):
    for path in build("a").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in tar} == {(0, 0, 0, "", "")}


def test_whole_shards_verify(build, capsys):
    folder = build("a")
    assert list(verify(folder)) == []
    assert main(["verify", str(folder)]) == 0
    assert "12 images, 24 samples" in capsys.readouterr().out


def rewrite(folder, change):
    """Write the first tar again with `change` made to its members, and a manifest that agrees: hashes alone find nothing."""
    path = next(iter(sorted(folder.glob("*.tar"))))
    with tarfile.open(path) as tar:
        members = [(m, tar.extractfile(m).read()) for m in tar]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, data in change(members):
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    manifest = files.read_json(folder / "manifest.json")
    shard = next(s for s in manifest["shards"] if s["file"] == path.name)
    shard |= {"sha256": files.sha256_file(path), "bytes": path.stat().st_size}
    files.write_json(folder / "manifest.json", manifest)


def flip(folder):
    path = next(folder.glob("*.tar"))
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)


def cut(folder):
    path = next(folder.glob("*.tar"))
    path.write_bytes(path.read_bytes()[:700])


def forget(folder):
    next(folder.glob("*.tar")).unlink()


def add_a_stray_tar(folder):
    (folder / "shard-00099.tar").write_bytes(next(folder.glob("*.tar")).read_bytes())


def unfinish(folder):
    (folder / "manifest.json").unlink()


def damage_manifest(folder):
    (folder / "manifest.json").write_text("{")


def damage_index(folder):
    path = folder / "index.parquet"
    path.write_bytes(path.read_bytes()[:-20])


def miscount(folder):
    manifest = files.read_json(folder / "manifest.json")
    manifest["by_language"]["arb_Arab"] += 1
    files.write_json(folder / "manifest.json", manifest)


def drop_a_member(folder):
    rewrite(folder, lambda members: members[1:])


def add_a_member(folder):
    rewrite(folder, lambda members: [*members, (tarfile.TarInfo("more.txt"), b"more")])


def repeat_a_member(folder):
    rewrite(folder, lambda members: [*members, members[-1]])


def swap_pictures(folder):
    def swap(members):
        (a, x), (b, y) = members[0], members[2]
        return [(a, y), members[1], (b, x), *members[3:]]

    rewrite(folder, swap)


def blacken(folder):
    rewrite(folder, lambda members: [(members[0][0], b"\0" * len(members[0][1])), *members[1:]])


def change_a_text(folder):
    rewrite(folder, lambda members: [(m, d.replace(b"jpn_Jpan", b"fra_Latn")) for m, d in members])


def break_a_json(folder):
    rewrite(folder, lambda members: [members[0], (members[1][0], members[1][1][:-1] + b"?"), *members[2:]])


FAULTS = {
    flip: "sha256",
    cut: "no whole tar",
    forget: "is missing",
    add_a_stray_tar: "shard-00099.tar is not in the manifest",
    unfinish: "run the flow again",
    damage_manifest: "is not JSON",
    damage_index: "index.parquet is damaged",
    miscount: "texts of language arb_Arab in the index",
    drop_a_member: "has no member",
    add_a_member: "has the member more.txt, which is not in the index",
    repeat_a_member: "twice",
    swap_pictures: "is not the one that was written",
    blacken: "can't be decoded",
    change_a_text: "the tar has",
    break_a_json: "no sample's JSON",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_verify_names_each_fault_and_exits_with_1(build, capsys, fault):
    folder = build("a")
    fault(folder)
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert str(folder) in said and FAULTS[fault] in said, said


def test_an_image_that_changed_since_it_was_read_is_refused(tmp_path):
    with pytest.raises(shards.ImageChanged, match="delete the run's folder"):
        shards.check_bytes(b"other", "0" * 64, tmp_path / "x.png")


def test_texts_are_in_one_json_with_their_scores(build):
    folder = build("a")
    row = files.read_table(folder / "index.parquet").to_pylist()[0]
    raw = (folder / row["shard"]).read_bytes()[row["json_offset"] :][: row["json_bytes"]]
    content = json.loads(raw)
    assert set(content) == {"image", "texts"} and set(content["texts"][0]) == {*shards.TEXT_COLUMNS, "scores"}
