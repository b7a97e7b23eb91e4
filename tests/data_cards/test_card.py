"""The card adds up, says so when it does not, escapes what it shows, and comes out the same every time.

Everything runs on a tiny run folder that is built here in the formats of docs/formats.md.
"""

import hashlib
import io
import json
import re
import tarfile
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml
from PIL import Image

from data_cards import licences, wording
from data_cards.card import build_card
from data_cards.pictures import Pictures
from data_cards.tally import UnbalancedRun
from pipeline import corpus, files
from pipeline.languages import BY_NLLB, ENGLISH

LANGUAGES = ["deu_Latn", "arb_Arab", "heb_Hebr", "nob_Latn", "zho_Hans", "yor_Latn"]
HOSTILE = "<script>alert(1)</script> & {{ 7 * 7 }} `x` | y"
ORIGINS = {"deu_Latn": "glossary: people 1.0", "zho_Hans": "english", "yor_Latn": "english"}
OWN_WORDS = {"arb_Arab": "قطة على سجادة", "heb_Hebr": "חתול על שטיח", "zho_Hans": "地毯上的一只猫"}


def build_run(folder: Path, model_licence: str = "Apache-2.0", hostile: bool = True) -> Path:
    """Four examples about three images (one of them WebP), each in all LANGUAGES, and one in English; German loses
    one text and Yoruba all but one."""
    images = {}
    for position, (extension, colour) in enumerate([("jpg", "red"), ("png", "green"), ("webp", "blue")]):
        data = io.BytesIO()
        Image.new("RGB", (90 + position, 60), colour).save(data, {"jpg": "JPEG"}.get(extension, extension.upper()))
        images[hashlib.sha256(data.getvalue()).hexdigest()] = (extension, data.getvalue())
    digests = sorted(images)

    examples = [
        ("s:cat", "captioning", digests[0], [("caption", "a cat on a rug")]),
        ("s:colour", "vqa", digests[1], [("question", "what colour is it?"), ("answer", "green")]),
        ("t:true", "matching", digests[2], [("caption", "a dog"), ("label", "no")]),
        ("t:hostile", "captioning", digests[1], [("caption", HOSTILE if hostile else "a square")]),
    ]
    example_rows = [
        {
            "id": id,
            "source": id[0],
            "task": task,
            "image": f"{id[2:]}.{images[sha][0]}",
            "image_sha256": sha,
            "image_format": images[sha][0],
            "image_width": 90,
            "image_height": 60,
            "fields": [{"role": role, "text": text} for role, text in fields],
            "licence": "CC0-1.0" if id[0] == "s" else "OFL-1.1 AND Unicode-3.0",
            "credit": "A | B <b>",
        }
        for id, task, sha, fields in examples
    ]
    unusable = [
        {
            "id": "t:9",
            "example": "t:9",
            "source": "t",
            "task": "vqa",
            "language": "",
            "stage": "examples",
            "reason": "image_unreadable",
            "detail": "truncated",
        }
    ]

    plan, samples, ledger = [], [], []
    for id, task, sha, fields in examples:
        for language in [*LANGUAGES, *([ENGLISH] if id == "s:cat" else [])]:
            plan.append({"example": id, "language": language, "assigned_by": "share"})
            row = {
                "id": corpus.planned_id(id, language),
                "example": id,
                "source": id[0],
                "task": task,
                "language": language,
            }
            scores = None if language == ENGLISH else {"length_ratio": 1.25, "language_label": "xx"}
            own = "a cat on a rug" if language == ENGLISH else OWN_WORDS.get(language, f"({language})")
            translated = [
                {
                    "role": r,
                    "source": t,
                    "text": t if r == "label" else f"{own} {t if id == 't:hostile' else ''}",
                    "origin": ORIGINS.get(language, "agreed") if r == "answer" else "",
                }
                for r, t in fields
            ]
            rejected = (language == "yor_Latn" and id != "s:cat") or (language == "deu_Latn" and id == "t:hostile")
            if rejected:
                reason = "language" if language == "yor_Latn" else "source_copy"
                ledger.append(
                    {
                        **row,
                        "stage": "accept",
                        "reason": reason,
                        "detail": HOSTILE,
                        "fields": translated,
                        "scores": scores,
                    }
                )
            else:
                prompt_language = language if task == "vqa" else ENGLISH
                samples.append(
                    {
                        **row,
                        "prompt_language": prompt_language,
                        "target_language": language,
                        "template": f"{task}-0",
                        "prompt": "Describe it.",
                        "target": translated[-1]["text"],
                        "answer_origin": translated[-1]["origin"],
                        "english": "\n".join(t for _, t in fields),
                        "image": f"{id}.jpg",
                        "image_sha256": sha,
                        "scores": scores,
                    }
                )
    samples.sort(key=lambda row: row["id"])

    write = lambda path, rows, schema: files.write_table(folder / path, pa.Table.from_pylist(rows, schema=schema))  # noqa: E731
    write("examples/examples.parquet", example_rows, corpus.EXAMPLES)
    write("examples/ledger.parquet", unusable, corpus.LEDGER)
    write("plan/plan.parquet", plan, corpus.PLAN)
    write("accept/ledger.parquet", ledger, corpus.LEDGER)
    write("render/samples.parquet", samples, corpus.SAMPLES)
    files.write_json(folder / "examples/manifest.json", {"records_read": {"s": 4, "s:beyond_limit": 2, "t": 3}})
    write_shard(folder, samples, images)
    files.write_json(
        folder / "run.json",
        {
            "name": "tiny",
            "mix": {"description": "A tiny run."},
            "translation_model": {
                "name": "toy",
                "fingerprint": "cd" * 32,
                "licence": model_licence,
                "beam_size": 1,
                "compute_type": "int8",
            },
            "policy": {"length_ratio": {"minimum": 0.3, "maximum": 3.0}},
            "languages": {
                code: {"check": "unverified" if code == "yor_Latn" else "checked", "detail": ""} for code in LANGUAGES
            },
            "identifier": {"name": "lid.176.ftz"},
            "short_answers": {"check": "joint", "back_translation": False, "glossary_answers": 3},
            "versions": {"polyalign": "0.1.0"},
        },
    )
    return folder


def write_shard(folder: Path, samples: list[dict], images: dict[str, tuple[str, bytes]]) -> None:
    """One tar, its index and its manifest, as docs/formats.md has them."""
    shards = folder / "shards"
    shards.mkdir(parents=True)
    columns = (
        "id",
        "example",
        "source",
        "task",
        "language",
        "prompt_language",
        "target_language",
        "template",
        "prompt",
        "target",
        "answer_origin",
        "scores",
    )
    index = []
    with tarfile.open(shards / "shard-00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for sha in sorted(images):
            extension, data = images[sha]
            texts = [
                {name: {} if row[name] is None else row[name] for name in columns}
                for row in samples
                if row["image_sha256"] == sha
            ]
            about = {"sha256": sha, "file": "x.png", "width": 90, "height": 60, "licence": "CC0-1.0", "credit": ""}
            content = files.json_bytes({"image": about, "texts": texts})
            offsets = []
            for name, member in ((f"{sha[:16]}.{extension}", data), (f"{sha[:16]}.json", content)):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                offsets.append((tar.offset + tarfile.BLOCKSIZE, len(member)))
                tar.addfile(info, io.BytesIO(member))
            index += [
                {
                    "shard": "shard-00000.tar",
                    "key": sha[:16],
                    "extension": extension,
                    "image_offset": offsets[0][0],
                    "image_bytes": offsets[0][1],
                    "image_sha256": sha,
                    "json_offset": offsets[1][0],
                    "json_bytes": offsets[1][1],
                    "text": position,
                    "id": text["id"],
                    "language": text["language"],
                    "task": text["task"],
                    "prompt_characters": len(text["prompt"]),
                    "target_characters": len(text["target"]),
                }
                for position, text in enumerate(texts)
            ]
    files.write_table(shards / "index.parquet", pa.Table.from_pylist(index))
    tar_file = shards / "shard-00000.tar"
    manifest = {
        "format": "polyalign-shards/1",
        "name": "tiny",
        "key": "k",
        "shards": [
            {
                "file": tar_file.name,
                "sha256": files.sha256_file(tar_file),
                "bytes": tar_file.stat().st_size,
                "images": 3,
                "samples": len(samples),
            }
        ],
        "index": {"file": "index.parquet", "sha256": files.sha256_file(shards / "index.parquet")},
        "images": 3,
        "samples": len(samples),
        "by_language": dict(Counter(row["language"] for row in samples)),
        "translation_model": {"name": "toy", "fingerprint": "cd" * 32, "licence": "Apache-2.0"},
    }
    files.write_json(shards / "manifest.json", manifest)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return build_run(tmp_path / "run")


@pytest.fixture
def card(run: Path) -> Path:
    build_card(run, run / "card")
    return run / "card"


def front_matter(card: Path) -> dict:
    return yaml.safe_load((card / "README.md").read_text(encoding="utf-8").split("---\n")[1])


class Elements(HTMLParser):
    """Start tags with their attributes, and a check that tags close in order."""

    VOID = frozenset({"meta", "br", "input", "img", "link"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_shows_the_sum_and_its_check_mark(card: Path) -> None:
    text = re.sub(r"<[^>]+>|\s+", " ", (card / "index.html").read_text(encoding="utf-8"))
    text = re.sub(r"\s+", " ", text)
    assert "25 planned = 21 samples + 4 in the ledger ✓" in text
    assert "7 rows read = 4 usable examples + 1 unusable + 2 left out by the mix's options ✓" in text
    assert "4 planned = 1 samples + 3 in the ledger ✓ (language 3)" in text  # Yoruba
    assert "✗" not in text


@pytest.mark.parametrize("file", ["accept/ledger.parquet", "render/samples.parquet"])
def test_a_lost_text_raises_the_alarm_and_leaves_nothing_to_publish(run: Path, file: str) -> None:
    build_card(run, run / "card")
    table = files.read_table(run / file)
    files.write_table(run / file, table.slice(1))
    lost = table["id"][0].as_py()
    with pytest.raises(UnbalancedRun, match="neither a sample nor in the ledger, for example " + re.escape(lost)):
        build_card(run, run / "card")
    page = (run / "card" / "index.html").read_text(encoding="utf-8")
    assert 'role="alert"' in page and "✗" in page
    assert [path.name for path in (run / "card").iterdir()] == ["index.html"]


def test_the_ways_of_short_answers_are_counted_by_language_over_samples_and_ledger(card: Path) -> None:
    readme = (card / "README.md").read_text(encoding="utf-8")
    counted = {"glossary": 1, "agreed": 3, "english": 2}
    for way, number in counted.items():
        assert re.search(rf"^\| {way} \| {number} \|", readme, re.MULTILINE)
    assert "people 1.0: 1" in readme and "agreement alone decided" in readme
    table = readme.split("Short answers of each language")[1].split("</details>")[0]
    assert re.search(r"^\| Yoruba \| 0 \| 0 \| 1 \|$", table, re.MULTILINE)
    assert re.search(r"^\| German \| 1 \| 0 \| 0 \|$", table, re.MULTILINE)
    assert len(re.findall(r"^\| .* \| \d \|", table, re.MULTILINE)) == len(LANGUAGES)
    page = (card / "index.html").read_text(encoding="utf-8")
    assert 'href="#answers"' in page and 'id="answers"' in page


def test_a_lost_text_is_seen_although_another_is_there_twice(run: Path) -> None:
    table = files.read_table(run / "render/samples.parquet")
    german = table.filter(pc.equal(table["language"], "deu_Latn"))
    rest = table.filter(pc.not_equal(table["language"], "deu_Latn"))
    twice = german.take([0, 0, *range(2, german.num_rows)])
    files.write_table(run / "render/samples.parquet", pa.concat_tables([rest, twice]))
    with pytest.raises(UnbalancedRun, match="found more than once"):
        build_card(run, run / "card")


def test_a_row_that_a_reader_lost_raises_the_alarm(run: Path) -> None:
    files.write_json(run / "examples/manifest.json", {"records_read": {"s": 4, "s:beyond_limit": 2, "t": 4}})
    with pytest.raises(UnbalancedRun, match="source t: 4 rows read"):
        build_card(run, run / "card")


def test_texts_of_the_dataset_are_never_markup(card: Path) -> None:
    page = (card / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("<script>") == 1 and "{{ 7 * 7 }}" in page
    assert "A | B &lt;b&gt;" in page
    assert r"A \| B &lt;b&gt;" in (card / "README.md").read_text(encoding="utf-8")


def test_page_is_well_formed_and_needs_no_network(card: Path) -> None:
    page = (card / "index.html").read_text(encoding="utf-8")
    elements = Elements(page)
    assert elements.open == []
    for tag, attributes in elements.found:
        assert tag not in {"link", "iframe", "object"}
        assert (attributes.get("src") or "data:").startswith("data:")
    assert not re.search(r"url\((?!data:)", page) and "@import" not in page
    assert len(page.encode()) < 3_000_000


@pytest.mark.parametrize("language", ["arb_Arab", "heb_Hebr"])
def test_right_to_left_texts_are_set_right_to_left(card: Path, language: str) -> None:
    page = (card / "index.html").read_text(encoding="utf-8")
    tag = BY_NLLB[language].tag
    assert f'<p lang="{tag}" dir="rtl" class="target">{OWN_WORDS[language]}' in page
    assert f'<bdi lang="{tag}" dir="rtl">{BY_NLLB[language].own_name}</bdi>' in page
    assert '<p lang="en" dir="ltr" class="english">a cat on a rug</p>' in page


def test_every_planned_language_has_a_panel_a_row_and_a_link(card: Path) -> None:
    page = (card / "index.html").read_text(encoding="utf-8")
    readme = (card / "README.md").read_text(encoding="utf-8")
    for language in LANGUAGES:
        assert f'id="{language}"' in page
        assert page.count(f'href="#{language}"') >= 2
        assert BY_NLLB[language].own_name in readme


def test_same_run_same_bytes(run: Path, tmp_path: Path) -> None:
    build_card(run, tmp_path / "one")
    build_card(run, tmp_path / "two")
    for name in ("README.md", "index.html", "croissant.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["README.md", "croissant.json", "index.html"]


def test_readme_head_is_what_the_hub_reads(card: Path) -> None:
    head = front_matter(card)
    assert head["license"] == "apache-2.0"
    assert head["language"] == ["ar", "de", "en", "he", BY_NLLB["nob_Latn"].tag.split("-")[0], "yo", "zh"]
    assert all(isinstance(code, str) for code in head["language"])  # YAML takes a bare `no` for false
    assert head["size_categories"] == ["n<1K"]
    assert head["task_categories"] == ["image-text-to-text", "image-to-text", "visual-question-answering"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.tar"}]


@pytest.mark.parametrize(
    ("model", "expected", "name"),
    [
        ("CC-BY-NC-4.0", "cc-by-nc-4.0", None),
        ("MPL-2.0 AND MIT", "mpl-2.0", None),
        ("see the model's card", "other", "see-the-model-s-card"),
    ],
)
def test_the_most_restrictive_licence_is_inherited(tmp_path: Path, model: str, expected: str, name: str | None) -> None:
    build_card(build_run(tmp_path / "run", model_licence=model), tmp_path / "card")
    head = front_matter(tmp_path / "card")
    assert head["license"] == expected
    assert head.get("license_name") == name


def test_a_source_more_restrictive_than_the_model_decides() -> None:
    assert licences.inherit("MIT", ["CC0-1.0", "CC-BY-NC-SA-4.0"]) == "CC-BY-NC-SA-4.0"
    assert licences.inherit("MIT", ["CC0-1.0", "Acme Data Licence"]) == "Acme Data Licence"
    assert licences.inherit("Apache-2.0", ["MIT", "public domain (picture), CC0-1.0 (text)"]) == "Apache-2.0"


def test_licences_of_an_expression_all_apply() -> None:
    assert licences.split("OFL-1.1 AND Unicode-3.0") == ["OFL-1.1", "Unicode-3.0"]
    assert licences.split("no known copyright restrictions (picture), CC0-1.0 (text)") == [
        "no known copyright restrictions",
        "CC0-1.0",
    ]
    assert licences.split("(MIT)") == ["MIT"] and licences.split("") == []


def test_croissant_names_every_file_with_its_sha256(card: Path, run: Path) -> None:
    document = json.loads((card / "croissant.json").read_text(encoding="utf-8"))
    assert document["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    named = {
        part["contentUrl"]: part["sha256"] for part in document["distribution"] if part["@type"] == "cr:FileObject"
    }
    assert named == {
        f"shards/{name}": files.sha256_file(run / "shards" / name) for name in ("shard-00000.tar", "index.parquet")
    }
    columns = files.read_table(run / "shards" / "index.parquet").column_names
    for field in document["recordSet"][0]["field"]:
        assert field["source"]["extract"]["column"] in columns


def test_a_damaged_shard_gets_no_card(run: Path) -> None:
    tar = run / "shards" / "shard-00000.tar"
    index = files.read_table(run / "shards" / "index.parquet")
    data = bytearray(tar.read_bytes())
    for offset in set(index["image_offset"].to_pylist()):
        data[offset + 20] ^= 1
    tar.write_bytes(bytes(data))
    with pytest.raises(ValueError, match="run the shards stage again"):
        build_card(run, run / "card")


def test_a_run_that_accepted_nothing_still_gets_its_card(run: Path) -> None:
    plan, samples = files.read_table(run / "plan/plan.parquet"), files.read_table(run / "render/samples.parquet")
    yoruba = pc.equal(plan["language"], "yor_Latn")
    files.write_table(run / "plan/plan.parquet", plan.filter(pc.and_(yoruba, pc.not_equal(plan["example"], "s:cat"))))
    ledger = files.read_table(run / "accept/ledger.parquet")
    files.write_table(run / "accept/ledger.parquet", ledger.filter(pc.equal(ledger["language"], "yor_Latn")))
    files.write_table(run / "render/samples.parquet", samples.slice(0, 0))
    files.write_table(run / "shards/index.parquet", files.read_table(run / "shards/index.parquet").slice(0, 0))
    manifest = files.read_json(run / "shards/manifest.json")
    files.write_json(run / "shards/manifest.json", {**manifest, "shards": [], "samples": 0})
    build_card(run, run / "card")
    assert "No text in this language was accepted." in (run / "card/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["s-0.tar", "s-1.tar", "s-2.tar"], "s-{0..2}.tar"),
        (["s-00.tar", "s-02.tar"], "s-{00,02}.tar"),
        (["s-00.tar"], "s-00.tar"),
        ([], ""),
    ],
)
def test_shard_names_are_written_as_webdataset_expands_them(names: list[str], expected: str) -> None:
    assert wording.brace(names) == expected


def test_pictures_keep_to_their_budget(run: Path) -> None:
    pictures = Pictures(run / "shards", files.read_table(run / "shards" / "index.parquet"))
    wanted = pc.unique(files.read_table(run / "render/samples.parquet")["image_sha256"]).to_pylist()
    roomy = pictures.thumbnails(wanted, 10**6)
    tight = pictures.thumbnails(wanted, sum(map(len, roomy.values())) - 1)
    assert sum(map(len, tight.values())) < sum(map(len, roomy.values()))


def test_the_code_in_the_readme_runs_as_pasted(
    run: Path, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also holds the head's `dataset_info`: without it `datasets` refuses tars with several image formats."""
    published = tmp_path / "published"
    published.mkdir()
    (published / "README.md").write_bytes((card / "README.md").read_bytes())
    (published / "shards").symlink_to(run / "shards")
    monkeypatch.chdir(published)
    programs = re.findall(r"```python\n(.*?)```", (card / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(programs) == 2
    for program in programs:
        exec(program.replace("path/or/name/of/this/folder", str(published)), {})
        printed = capsys.readouterr().out
        assert printed.count("→") == 21 and "yor_Latn" in printed and "(91, 60)" in printed
