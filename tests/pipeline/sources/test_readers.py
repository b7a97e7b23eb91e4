"""Every reader on small files in the exact published form, and on bad ones."""

import csv
import io
import json
import tarfile

import pytest
from PIL import Image

from pipeline.languages import BY_NLLB
from pipeline.mix import Mix
from pipeline.sources.read import read_examples
from tests.pipeline.sources import published


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return published.write_all(tmp_path_factory.mktemp("data"))


def read(*sources, **sections):
    """Read sources, the last one under the name s."""
    options = [{"name": f"before{i}", "licence": "CC0-1.0", **s} for i, s in enumerate(sources[:-1])]
    options.append({"name": "s", "licence": "CC0-1.0", **sources[-1]})
    return read_examples(Mix(name="m", sources=options, translation={"model": "x"}, memory="y", **sections))


def rows(corpus):
    """Examples by own id."""
    return {e["id"].split(":", 1)[1]: e for e in corpus.examples.to_pylist() if e["source"] == "s"}


def texts(example):
    return [(f["role"], f["text"]) for f in example["fields"]]


def adds_up(corpus, name="s"):
    """Promise 4: records read = examples + ledger rows + records left out."""
    left_out = sum(n for k, n in corpus.counts.items() if k.startswith(f"{name}:"))
    mine = [t["source"].to_pylist().count(name) for t in (corpus.examples, corpus.ledger)]
    return corpus.counts[name] == sum(mine) + left_out


KARPATHY = {"reader": "coco_karpathy"}


def test_coco_in_karpathy_s_splits(data):
    source = {**KARPATHY, "path": data / "coco/dataset_coco.json"}
    corpus = read(source)
    found = rows(corpus)
    assert len(found) == 50 and corpus.ledger.num_rows == 0 and adds_up(corpus)
    assert corpus.counts == {"s": 51, "s:other_split": 1}
    assert texts(found["1000"]) == [("caption", "A dog on a beach.")]
    assert found["1000"]["image"] == "train2014/COCO_train2014_000000000009.jpg"
    assert list(rows(read({**source, "splits": ["test"]}))) == ["770337"]


def test_coco_s_official_annotations_with_the_licence_of_each_picture(data):
    source = {
        "reader": "coco_captions",
        "path": data / "coco/annotations/captions_train2014.json",
        "licence": "CC-BY-4.0",
    }
    corpus = read({**source, "images": data / "coco/train2014"})
    found = rows(corpus)
    assert len(found) == 10 and adds_up(corpus)
    assert texts(found["48"]) == [("caption", "A dog on a beach")]
    assert found["48"]["licence"] == "CC-BY-4.0 (text), Attribution License (picture)"
    assert found["49"]["licence"] == "CC-BY-4.0 (text), No known copyright restrictions (picture)"


def test_web_capfilt_with_what_img2dataset_downloaded(data):
    source = {
        "reader": "capfilt",
        "path": data / "capfilt/ccs_synthetic_filtered_large.json",
        "images": data / "capfilt/images",
    }
    corpus = read(source)
    assert corpus.examples.num_rows == 59 and adds_up(corpus)
    assert corpus.ledger["reason"].to_pylist() == ["image_missing"]
    assert "http://images.example/5.jpg" in corpus.ledger["detail"][0].as_py()
    by_text = {e["fields"][0]["text"]: e for e in corpus.examples.to_pylist()}
    example = by_text["a dog on a beach with a wooden chair"]
    assert example["image"] == "00000.tar/000000000.jpg"
    assert example["image_width"] == 64
    records = json.loads(source["path"].read_bytes())
    records.append({"caption": "a kite", "url": "http://images.example/never-asked-for.jpg"})
    more = read({**source, "path": published.write(data / "capfilt/more.json", records)})
    assert more.counts == {"s": 61, "s:not_in_download": 1} and more.examples.equals(corpus.examples) and adds_up(more)
    with pytest.raises(ValueError, match="no output of img2dataset"):
        read({**source, "images": data / "coco"})


COCO_2014 = "train2014/COCO_train2014_{id:012d}.jpg"


def test_llava_detail_and_complex_reasoning(data):
    for name in ("detail_23k", "complex_reasoning_77k"):
        source = {"reader": "llava", "path": data / f"llava/{name}.json", "images": data / "coco/train2017"}
        corpus = read(source)
        assert corpus.examples.num_rows == 4 and adds_up(corpus)
        first = next(e for k, e in rows(corpus).items() if k.startswith("000000000009-"))
        assert texts(first)[0] == ("instruction", "Write a detailed description of the given image.")
        assert texts(first)[1][1] == "The image shows a dog on a beach. It is bright.\n\nA person looks at it."
        other = read({**source, "images": data / "coco", "image_name": COCO_2014})
        assert {e["image"] for e in other.examples.to_pylist()} == {
            COCO_2014.format(id=i) for i in published.COCO_IDS[:4]
        }


def test_llava_conversations_whole_or_by_turn(data):
    source = {"reader": "llava", "path": data / "llava/conversation_58k.json", "images": data / "coco/train2017"}
    whole = read(source)
    assert [len(e["fields"]) for e in whole.examples.to_pylist()] == [4] * 4
    turns = read({**source, "turns": "single"})
    assert [len(e["fields"]) for e in turns.examples.to_pylist()] == [2] * 8
    short = read({**source, "turns": "single", "max_sentences": 3})
    assert short.counts == {"s": 8, "s:too_many_sentences": 4} and adds_up(short)


def test_llava_s_665k_joins_datasets_and_has_records_without_a_picture(data):
    corpus = read({"reader": "llava", "path": data / "llava/llava_v1_5_mix665k.json", "images": data})
    assert corpus.counts == {"s": 4, "s:text_only": 1} and adds_up(corpus)
    found = rows(corpus)
    assert len([k for k in found if k.startswith("000000000009-")]) == 2  # two conversations under one id
    assert any(k.startswith("ocr-1-") for k in found)


def test_vqav2_joins_answers_by_question_for_each_task(data):
    source = {
        "reader": "vqav2",
        "path": data / "vqav2/v2_OpenEnded_mscoco_train2014_questions.json",
        "annotations": data / "vqav2/v2_mscoco_train2014_annotations.json",  # in another order
        "images": data / "coco",
    }
    corpus = read({**source, "tasks": ["vqa", "question_generation"]})
    found = rows(corpus)
    assert len(found) == 20 and adds_up(corpus)
    for task in ("vqa", "question_generation"):
        assert texts(found[f"9000-{task}"]) == [("question", "What is on a beach?"), ("answer", "dog")]
        assert found[f"9000-{task}"]["task"] == task
    assert found["9000-vqa"]["image"] == "train2014/COCO_train2014_000000000009.jpg"


def test_aokvqa_gives_each_rationale_once_for_each_task(data):
    source = {"reader": "aokvqa", "path": data / "aokvqa/aokvqa_v1p0_train.json", "images": data / "coco"}
    corpus = read({**source, "tasks": ["reasoning", "explanation", "vqa"]})
    by_task = [e["task"] for e in corpus.examples.to_pylist()]
    assert (by_task.count("reasoning"), by_task.count("explanation"), by_task.count("vqa")) == (15, 15, 5)
    reasoning = next(e for e in corpus.examples.to_pylist() if e["task"] == "reasoning")
    assert [r for r, _ in texts(reasoning)] == ["question", "answer", "rationale"]
    assert texts(reasoning)[1][1] in published.THINGS and adds_up(corpus)


IMAGENET = {
    "reader": "imagenet",
    "path": "imagenet/train",
    "labels": "imagenet/babel_imagenet-298.json",
    "classes": "imagenet/imagenet_class_index.json",
}


def imagenet(data, **more):
    return {**IMAGENET, **{k: data / IMAGENET[k] for k in ("path", "labels", "classes")}, **more}


def test_imagenet_with_the_names_of_babel_imagenet(data):
    corpus = read(imagenet(data, tasks=["classification", "object_presence"]))
    found = rows(corpus)
    assert len(found) == 16 + 32 and adds_up(corpus)
    assert texts(found["n01484850_10026-class"]) == [("name", "great white shark")]
    given = {(r["key"], r["language"]): r["text"] for r in corpus.given.to_pylist()}
    assert given["n01484850", "deu_Latn"] == "Weißer Hai"
    assert given["n01443537", "heb_Hebr"] == "דג זהב"
    assert ("n01484850", "heb_Hebr") not in given  # Latin letters
    assert {language for _, language in given} == {"deu_Latn", "heb_Hebr", "zho_Hans"} <= set(BY_NLLB)


def test_imagenet_s_yes_and_no_come_in_pairs_about_one_picture(data):
    corpus = read(imagenet(data, tasks=["object_presence"], per_class=2))
    assert corpus.counts == {"s": 24, "s:beyond_per_class": 8} and adds_up(corpus)
    pairs = {}
    for example in corpus.examples.to_pylist():
        pairs.setdefault(example["group"], {})[texts(example)[1][1]] = example
    assert all(set(p) == {"yes", "no"} for p in pairs.values())
    for pair in pairs.values():
        assert pair["yes"]["image"] == pair["no"]["image"]
        assert pair["yes"]["given"] != pair["no"]["given"] and pair["yes"]["given"] in pair["yes"]["image"]


@pytest.fixture
def folder(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.jpg").write_bytes(published.picture(i))
    return tmp_path


def test_csv_with_own_column_names_and_ids_by_content(folder):
    table = [["file", "what", "ask"], ["0.jpg", "a dog, red", "What?"], ["1.jpg", 'a "cat"', "What\nis it?"]]
    for name, delimiter in (("table.csv", ","), ("table.tsv", "\t")):
        with open(folder / name, "w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file, delimiter=delimiter).writerows(table)
    columns = {"image": "file", "answer": "what", "question": "ask"}
    found = [
        rows(read({"reader": "csv", "path": folder / n, "task": "vqa", "columns": columns}))
        for n in ("table.csv", "table.tsv")
    ]
    assert found[0] == found[1] and len(found[0]) == 2
    assert sorted(texts(e)[1][1] for e in found[0].values()) == ['a "cat"', "a dog, red"]
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([table[0], table[2], table[1]])
    assert rows(read({"reader": "csv", "path": folder / "table.csv", "task": "vqa", "columns": columns})) == found[0]


def test_datasets_from_a_folder_of_parquet_and_from_an_imagefolder(folder, tmp_path):
    import datasets

    source = {"reader": "datasets", "images": tmp_path / "stored"}
    pictures = [{"bytes": (folder / f"{i}.jpg").read_bytes(), "path": None} for i in range(3)]
    features = datasets.Features(
        {"picture": datasets.Image(), "text": datasets.Value("string"), "n": datasets.Value("int64")}
    )
    table = datasets.Dataset.from_dict(
        {"picture": pictures, "text": ["one", "two", "three"], "n": [7, 8, 9]}, features=features
    )
    (tmp_path / "parquet").mkdir()
    table.to_parquet(tmp_path / "parquet" / "train-00000.parquet")
    corpus = read(
        {**source, "path": tmp_path / "parquet", "columns": {"image": "picture", "caption": "text", "id": "n"}}
    )
    found = rows(corpus)
    assert {k: texts(e)[0][1] for k, e in found.items()} == {"7": "one", "8": "two", "9": "three"} and adds_up(corpus)
    assert (tmp_path / "stored" / found["7"]["image"]).read_bytes() == pictures[0]["bytes"]  # as delivered
    (tmp_path / "imagefolder").mkdir()
    lines = [json.dumps({"file_name": f"{i}.jpg", "caption": f"picture {i}"}) for i in range(3)]
    for i in range(3):
        (tmp_path / "imagefolder" / f"{i}.jpg").write_bytes(pictures[i]["bytes"])
    (tmp_path / "imagefolder" / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    corpus = read({**source, "path": tmp_path / "imagefolder"})
    assert sorted(texts(e)[0][1] for e in rows(corpus).values()) == ["picture 0", "picture 1", "picture 2"]


def test_webdataset_tars_as_img2dataset_writes_them(data):
    corpus = read({"reader": "webdataset", "path": data / "capfilt/images"})
    assert corpus.examples.num_rows == 59 and corpus.ledger.num_rows == 0 and adds_up(corpus)
    example = rows(corpus)["00000/000000000"]
    assert texts(example) == [("caption", "a dog on a beach with a wooden chair")]
    assert example["image"] == "00000.tar/000000000.jpg"
    one = read(
        {
            "reader": "webdataset",
            "path": data / "capfilt/images/00001.tar",
            "columns": {"caption": "json.caption", "id": "json.key"},
        }
    )
    assert "000010000" in rows(one)


PUBLISHED = {
    "coco_karpathy": ({"path": "coco/dataset_coco.json", "images": "coco"}, "images"),
    "coco_captions": ({"path": "coco/annotations/captions_train2014.json", "images": "coco/train2014"}, "annotations"),
    "capfilt": ({"path": "capfilt/ccs_synthetic_filtered_large.json", "images": "capfilt/images"}, None),
    "llava": ({"path": "llava/conversation_58k.json", "images": "coco/train2017"}, None),
    "vqav2": (
        {
            "path": "vqav2/v2_OpenEnded_mscoco_train2014_questions.json",
            "annotations": "vqav2/v2_mscoco_train2014_annotations.json",
            "images": "coco",
        },
        "questions",
    ),
    "aokvqa": ({"path": "aokvqa/aokvqa_v1p0_train.json", "images": "coco"}, None),
}


def changed(data, tmp_path, reader, change):
    """A source whose file is `change`d: bytes to bytes."""
    options = {k: data / v for k, v in PUBLISHED[reader][0].items()}
    path = tmp_path / options["path"].name
    path.write_bytes(change(options["path"].read_bytes()))
    return {"reader": reader, **options, "path": path}


def on_records(reader, change):
    """A change of the list of records in a published file."""

    def apply(content):
        value = json.loads(content)
        change(value if PUBLISHED[reader][1] is None else value[PUBLISHED[reader][1]])
        return json.dumps(value).encode()

    return apply


@pytest.mark.parametrize("reader", PUBLISHED)
def test_a_file_that_breaks_off_gives_what_came_before_and_says_where(data, tmp_path, reader):
    corpus = read(changed(data, tmp_path, reader, lambda content: content[: len(content) * 9 // 10]))
    assert corpus.examples.num_rows and adds_up(corpus)
    (detail,) = [
        d
        for r, d in zip(*(corpus.ledger[c].to_pylist() for c in ("reason", "detail")), strict=True)
        if r == "truncated_json"
    ]
    assert PUBLISHED[reader][0]["path"].rsplit("/", 1)[1] in detail and "after record" in detail


@pytest.mark.parametrize("reader", PUBLISHED)
@pytest.mark.parametrize(
    "content", [b"{}", b"[]", b'{"other": [1]}', b"", b"not json", b'{"images": 3, "annotations": 3, "questions": 3}']
)
def test_another_file_gives_nothing_and_its_name(data, tmp_path, reader, content):
    corpus = read(changed(data, tmp_path, reader, lambda _: content))
    assert corpus.examples.num_rows == 0 and corpus.ledger.num_rows >= 1 and adds_up(corpus)
    assert set(corpus.ledger["reason"].to_pylist()) <= {"wrong_schema", "truncated_json", "not_json"}
    assert PUBLISHED[reader][0]["path"].rsplit("/", 1)[1] in corpus.ledger["detail"][0].as_py()


@pytest.mark.parametrize("reader", PUBLISHED)
@pytest.mark.parametrize("record", [{}, 5, None, [], "x", {"id": 1}, {"question_id": {}}])
def test_a_record_of_another_schema_costs_only_itself_and_says_its_number(data, tmp_path, reader, record):
    before = read(changed(data, tmp_path, reader, lambda c: c))
    corpus = read(changed(data, tmp_path, reader, on_records(reader, lambda records: records.insert(1, record))))
    assert corpus.examples.equals(before.examples)
    assert corpus.ledger.num_rows == before.ledger.num_rows + 1 and adds_up(corpus)
    assert "record 2" in " ".join(corpus.ledger["detail"].to_pylist())


@pytest.mark.parametrize("reader", PUBLISHED)
def test_a_record_given_twice_is_used_once(data, tmp_path, reader):
    before = read(changed(data, tmp_path, reader, lambda c: c))
    corpus = read(changed(data, tmp_path, reader, on_records(reader, lambda records: records.append(records[0]))))
    assert corpus.examples.equals(before.examples) and adds_up(corpus)
    assert "duplicate_id" in corpus.ledger["reason"].to_pylist()


@pytest.mark.parametrize("reader", PUBLISHED)
def test_a_missing_picture_costs_its_examples_and_is_named(data, tmp_path, reader):
    source = changed(data, tmp_path, reader, lambda c: c)
    if reader == "capfilt":
        import shutil

        shutil.copytree(source["images"], tmp_path / "images")
        (tmp_path / "images/00001.tar").write_bytes((tmp_path / "images/00001.tar").read_bytes()[:700])
        source["images"] = tmp_path / "images"
    else:
        source["images"] = tmp_path / "nowhere"
    corpus = read(source)
    assert corpus.examples.num_rows == (30 if reader == "capfilt" else 0) and adds_up(corpus)
    assert set(corpus.ledger["reason"].to_pylist()) <= {"image_missing", "image_unreadable"}
    assert all(".jpg" in d for d in corpus.ledger["detail"].to_pylist())


def test_absurd_sizes_are_refused(data, tmp_path, folder, monkeypatch):
    (tmp_path / "a.csv").write_text("image,caption\n0.jpg," + "x" * 200_000 + "\n1.jpg,fine\n", encoding="utf-8")
    corpus = read({"reader": "csv", "path": tmp_path / "a.csv"})
    assert corpus.ledger["reason"].to_pylist() == ["too_large"] and "100,000" in corpus.ledger["detail"][0].as_py()
    image = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(image, "PNG")
    (tmp_path / "2.jpg").write_bytes(image.getvalue())
    (tmp_path / "a.csv").write_text("image,caption\n2.jpg,vast\n1.jpg,fine\n", encoding="utf-8")
    corpus = read({"reader": "csv", "path": tmp_path / "a.csv"})
    assert corpus.ledger["reason"].to_pylist() == ["image_broken"] and "2.jpg" in corpus.ledger["detail"][0].as_py()
    monkeypatch.setattr("pipeline.sources.images.MAX_IMAGE_BYTES", 100)
    corpus = read({"reader": "csv", "path": tmp_path / "a.csv"})
    assert corpus.ledger["reason"].to_pylist() == ["image_unreadable"] * 2


@pytest.mark.parametrize(
    ("content", "reason", "detail"),
    [
        ("", "wrong_schema", "no column image, caption"),
        ("image,text\n0.jpg,x\n", "wrong_schema", "no column caption"),
        ("image,caption\n0.jpg\n", "wrong_schema", "line 2"),
        ("image,caption\n0.jpg,x,y\n", "wrong_schema", "line 2"),
        ("image,caption\n0.jpg,\n", "bad_fields", "line 2"),
        ("image,caption\n,x\n", "no_image", "line 2"),
        ("image,caption\n0.jpg,x\n0.jpg,x\n", "duplicate_id", "record 2"),
        ("image,caption\n9.jpg,x\n", "image_missing", "9.jpg"),
    ],
)
def test_a_bad_csv_says_its_line(folder, content, reason, detail):
    (folder / "a.csv").write_text(content, encoding="utf-8")
    corpus = read({"reader": "csv", "path": folder / "a.csv"})
    assert corpus.ledger["reason"].to_pylist() == [reason] and adds_up(corpus)
    assert detail in corpus.ledger["detail"][0].as_py() and "a.csv" in corpus.ledger["detail"][0].as_py()


def test_a_csv_that_is_not_utf8_says_so(folder):
    (folder / "a.csv").write_bytes("image,caption\n0.jpg,Übung\n".encode("latin-1"))
    corpus = read({"reader": "csv", "path": folder / "a.csv"})
    assert corpus.ledger["reason"].to_pylist() == ["not_utf8"]


def tar_of(path, *members):
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_bad_tars_say_their_sample(tmp_path):
    good = published.picture(1)
    path = tar_of(
        tmp_path / "a.tar",
        ("1.txt", b"no picture"),
        ("2.jpg", good),
        ("2.json", b"{"),
        ("3.jpg", good),
        ("3.txt", b"fine"),
    )
    corpus = read({"reader": "webdataset", "path": path})
    assert dict(zip(*(corpus.ledger[c].to_pylist() for c in ("id", "reason")), strict=True)) == {
        "s:1": "no_image",
        "s:2": "not_json",
    }
    assert list(rows(corpus)) == ["a/3"] and adds_up(corpus)
    path.write_bytes(path.read_bytes()[:2500])
    corpus = read({"reader": "webdataset", "path": path})
    assert "truncated_tar" in corpus.ledger["reason"].to_pylist() and "a.tar" in corpus.ledger["detail"][0].as_py()


def test_a_dataset_that_cannot_be_opened_or_lacks_a_column_is_one_clear_row(tmp_path):
    (tmp_path / "d").mkdir()
    source = {"reader": "datasets", "path": tmp_path / "d", "images": tmp_path / "stored"}
    assert read(source).ledger["reason"].to_pylist() == ["unreadable"]
    (tmp_path / "d" / "train.jsonl").write_text('{"image": "a.jpg", "text": "x"}\n', encoding="utf-8")
    corpus = read(source)
    assert corpus.ledger["reason"].to_pylist() == ["wrong_schema"] and "caption" in corpus.ledger["detail"][0].as_py()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("labels", b"{", "not JSON"),
        ("labels", b"[]", "object"),
        ("labels", b'{"DE": [[0, 1], ["a"]]}', "language DE"),
        ("labels", b'{"DE": [[1000], ["a"]]}', "1000"),
        ("classes", b'{"1": ["n01440764", "tench"]}', "class_index"),
    ],
)
def test_imagenet_s_tables_are_checked(data, tmp_path, file, content, message):
    (tmp_path / "table.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"table\.json.*{message}"):
        read(imagenet(data, **{file: tmp_path / "table.json"}))
