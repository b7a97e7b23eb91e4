"""Runs the readers of a mix: checks ids and images, selects, and gives the table of examples and the ledger of what can't be used.

Each image is opened, decoded and hashed once. An image that is missing or does not decode costs its examples, never the run, and is never
replaced. For each source, records read = examples + ledger rows + records left out, and the last are counted by reason.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import files
from pipeline.corpus import EXAMPLES, GIVEN, LEDGER, Example, LeftOut, SourceError
from pipeline.mix import Mix
from pipeline.sources import (
    aokvqa,
    capfilt,
    coco_captions,
    coco_karpathy,
    csv_table,
    hub,
    imagenet,
    jsonl,
    llava,
    matching,
    vqav2,
    webdataset_tars,
)
from pipeline.sources.config import DatasetsSource, ImagenetSource, MatchingSource, SourceConfig
from pipeline.sources.images import ImageFacts, check_image
from pipeline.sources.select import Exclusion, duplicate_key, example_order, select_by_noun_phrases

logger = logging.getLogger(__name__)

VERSION = 3

Record = Example | SourceError | LeftOut

READERS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "aokvqa": aokvqa.read,
    "capfilt": capfilt.read,
    "coco_captions": coco_captions.read,
    "coco_karpathy": coco_karpathy.read,
    "csv": csv_table.read,
    "datasets": hub.read,
    "imagenet": imagenet.read,
    "jsonl": jsonl.read,
    "llava": llava.read,
    "vqav2": vqav2.read,
    "webdataset": webdataset_tars.read,
}
"""The readers that need nothing but their own files; `matching` also needs the captions of another source."""

IMAGES_AT_ONCE = 4096
ROWS_AT_ONCE = 65536


class Corpus(NamedTuple):
    """What the sources of a mix gave."""

    examples: pa.Table
    """Schema EXAMPLES, sorted by id."""
    ledger: pa.Table
    """Unusable records, schema LEDGER, sorted by source and id."""
    counts: dict[str, int]
    """Records read by source, and under `SOURCE:REASON` how many of them were left out for a reason that needs no row each."""
    given: pa.Table
    """Names that people have given, schema GIVEN, sorted by key and language."""


def missing_sources(mix: Mix) -> list[str]:
    """Complaints about source files that are not there, to be made before any work."""
    return [f"source {s.name!r}: there is no file {p}" for s in mix.sources for p in s.files if not p.exists()] + [
        f"there is no file {p}"
        for p in (*mix.exclude.ids, *mix.exclude.images, *([mix.extends] if mix.extends else []))
        if not p.exists()
    ]


def image_folders(mix: Mix) -> dict[str, Path]:
    """The folder that each source's image paths are relative to."""
    by_name = {s.name: s for s in mix.sources}
    return {s.name: (by_name[s.of] if isinstance(s, MatchingSource) else s).image_folder for s in mix.sources}


def source_fingerprint(mix: Mix) -> list[Any]:
    """What decides the table of examples, for the stage's key: the options and the content of the files. Folders and files of more than 4 GB
    are known by names and sizes."""
    options = [
        s.model_dump(mode="json", exclude={"images", "path", "weight", "languages", *s.other_paths})
        for s in mix.sources
    ]
    hubs = [str(s.path) if isinstance(s, DatasetsSource) and s.is_on_hub else "" for s in mix.sources]
    contents = [[content_fingerprint(p) for p in s.files] for s in mix.sources]
    excluded = [content_fingerprint(p) for p in (*mix.exclude.ids, *mix.exclude.images)]
    return [options, hubs, contents, excluded, mix.exclude.distance if excluded else 0]


def content_fingerprint(path: Path) -> str:
    """A hash of a file's content, or of the names and sizes of the files in a folder. Folders are listed once in a process: they can have a
    million files, and a run is opened once."""
    if path.is_dir():
        return _listing(path)
    status = path.stat()
    if status.st_size > 4 << 30:
        return files.sha256_json([path.name, status.st_size])
    return _sha256(path, status.st_size, status.st_mtime_ns)


@cache
def _listing(folder: Path) -> str:
    entries = ([p.relative_to(folder).as_posix(), p.stat().st_size] for p in folder.rglob("*") if p.is_file())
    return files.sha256_json(sorted(entries))


@lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    return files.sha256_file(path)


def read_examples(mix: Mix) -> Corpus:
    """Read all sources of `mix`."""
    exclusion, folders = Exclusion(mix.exclude), image_folders(mix)
    tables: dict[str, pa.Table] = {}
    ledger: list[dict[str, object]] = []
    counts: dict[str, int] = {}
    facts: dict[tuple[Path, str], ImageFacts | tuple[str, str]] = {}
    for source in mix.sources:
        records: Iterable[Record]
        if isinstance(source, MatchingSource):
            origin = next(s for s in mix.sources if s.name == source.of)
            source = source.model_copy(
                update={"images": folders[source.name], "licence": source.licence or origin.licence}
            )
            records = matching.read(source, captions_of(tables[source.of]))
        else:
            records = READERS[source.reader](source)
        reading = _Reading(source, exclusion, facts)
        reading.take(records)
        reading.check_images(reading.select())
        tables[source.name] = reading.table()
        ledger += reading.ledger
        counts[source.name] = reading.records
        counts |= {f"{source.name}:{reason}": n for reason, n in sorted(reading.left_out.items())}
        if not tables[source.name].num_rows:
            first = f"; the first reason: {reading.ledger[0]['detail']}" if reading.ledger else ""
            logger.warning("source %s gave no usable example of %d records%s", source.name, reading.records, first)
    examples = pa.concat_tables(tables.values()).sort_by("id")
    ledger.sort(key=lambda row: (str(row["source"]), str(row["id"]), str(row["detail"])))
    return Corpus(examples, pa.Table.from_pylist(ledger, schema=LEDGER), counts, _given(mix, examples))


def _given(mix: Mix, examples: pa.Table) -> pa.Table:
    """The given names of the examples: those of JSONL records stand with the record, those of ImageNet in a file of their own."""
    rows: dict[tuple[str, str], str] = {}
    for source in mix.sources:
        if isinstance(source, ImagenetSource):
            rows |= {(key, language): name for key, language, name in imagenet.read_names(source)}
    keys, languages = [k for k, _ in sorted(rows)], [x for _, x in sorted(rows)]
    texts = [rows[place] for place in sorted(rows)]
    return pa.table([pa.array(c, pa.string()) for c in (keys, languages, texts)], schema=GIVEN)


def captions_of(examples: pa.Table) -> list[matching.Caption]:
    """The captions among examples (schema EXAMPLES)."""
    columns = ["id", "task", "image", "image_sha256", "fields", "licence", "credit"]
    return [
        matching.Caption(e["id"], e["image"], e["image_sha256"], e["fields"][0]["text"], e["licence"], e["credit"])
        for batch in examples.select(columns).to_batches(max_chunksize=65536)
        for e in batch.to_pylist()
        if e["task"] == "captioning"
    ]


RAW = pa.schema(
    [
        ("record", pa.int64()),
        ("order", pa.uint64()),
        ("says", pa.binary(16)),
        *((EXAMPLES.field(c)) for c in ("id", "task", "image", "fields", "licence", "credit", "group", "given")),
    ]
)
"""Examples of one source before their images are known. `record`: number in the source. `order`: hash by which examples are chosen. `says`: equal
for duplicates; empty where duplicates are kept."""


class _Reading:
    """One source while it is read: its examples as Arrow, its part of the ledger, and the counts of what is left out."""

    def __init__(self, source: SourceConfig, exclusion: Exclusion, facts: dict[tuple[Path, str], Any]) -> None:
        self.source, self.exclusion, self.facts = source, exclusion, facts
        self.records = 0
        self.left_out: Counter[str] = Counter()
        self.ledger: list[dict[str, object]] = []
        self.raw = RAW.empty_table()
        self.kept: list[pa.Table] = [EXAMPLES.empty_table()]

    def take(self, records: Iterable[Record]) -> None:
        """Read all records; sort out errors, ids given twice, and images of evaluation sets by their names."""
        parts, rows = [RAW.empty_table()], []
        for record in records:
            if isinstance(record, LeftOut):
                self.records += record.records
                self.left_out[record.reason] += record.records
                continue
            self.records += 1
            if isinstance(record, SourceError):
                self._reject(
                    f"{self.source.name}:{record.own_id}", "", record.reason, f"{record.where}: {record.detail}"
                )
                continue
            rows.append(self._raw_row(record))
            if len(rows) == ROWS_AT_ONCE:
                parts.append(pa.Table.from_pylist(rows, schema=RAW))
                rows = []
        parts.append(pa.Table.from_pylist(rows, schema=RAW))
        self.raw = self._without_evaluation_images(self._without_repeated_ids(pa.concat_tables(parts)))

    def _raw_row(self, example: Example) -> dict[str, object]:
        says = None
        if self.source.duplicates != "keep":
            place = example.image if self.source.duplicates_within == "image" else ""
            texts = duplicate_key((f.text for f in example.fields), self.source.duplicates)
            says = hashlib.blake2b(b"\0".join((example.task.encode(), place.encode(), texts)), digest_size=16).digest()
        return {
            "record": self.records,
            "order": int.from_bytes(example_order(example.group or example.id)),
            "says": says,
            "id": example.id,
            "task": example.task,
            "image": example.image,
            "fields": [f._asdict() for f in example.fields],
            "licence": example.licence,
            "credit": example.credit,
            "group": example.group,
            "given": example.given,
        }

    def _without_repeated_ids(self, raw: pa.Table) -> pa.Table:
        codes = raw["id"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
        _, first = np.unique(codes, return_index=True)
        is_first = np.zeros(len(codes), dtype=bool)
        is_first[first] = True
        numbers = raw["record"].to_numpy()
        for row in (
            raw.select(["record", "id", "task"])
            .append_column("code", pa.array(codes))
            .filter(pa.array(~is_first))
            .to_pylist()
        ):
            known = f"the id is already that of record {numbers[first[row['code']]]}"
            self._reject(
                row["id"], row["task"], "duplicate_id", f"record {row['record']} of {self.source.path}: {known}"
            )
        return raw.filter(pa.array(is_first))

    def _without_evaluation_images(self, raw: pa.Table) -> pa.Table:
        if not self.exclusion.names:
            return raw
        kept = np.ones(raw.num_rows, dtype=bool)
        for i, image in enumerate(raw["image"].to_pylist()):
            if reason := self.exclusion.by_name(image):
                kept[i] = False
                row = raw.slice(i, 1).select(["id", "task"]).to_pylist()[0]
                self._reject(row["id"], row["task"], "evaluation_image", f"{self.source.path}: {reason}")
        return raw.filter(pa.array(kept))

    def select(self) -> np.ndarray:
        """Positions of the examples that the source's options keep, in the order in which a `limit` takes them: groups by their hash."""
        source, raw = self.source, self.raw
        chosen = (
            pc.sort_indices(raw, sort_keys=[("order", "ascending"), ("id", "ascending")]).to_numpy().astype(np.int64)
        )
        if source.duplicates != "keep":
            says = np.frombuffer(b"".join(raw["says"].to_pylist()), dtype="V16")[chosen]
            _, first = np.unique(says, return_index=True)
            self.left_out[f"duplicate_{source.duplicates}"] += len(chosen) - len(first)
            chosen = chosen[np.sort(first)]
        if source.noun_phrases is not None:
            is_caption = pc.equal(raw["task"], "captioning").to_numpy()[chosen]
            captions = chosen[is_caption]
            texts = (
                f[0]["text"]
                for part in _parts(captions)
                for f in raw.select(["fields"]).take(pa.array(part))["fields"].to_pylist()
            )
            kept = np.ones(len(chosen), dtype=bool)
            kept[is_caption] = select_by_noun_phrases(texts, raw["order"].to_numpy()[captions], source.noun_phrases)
            self.left_out["noun_phrases"] += int(len(kept) - kept.sum())
            chosen = chosen[kept]
        return chosen

    def check_images(self, chosen: np.ndarray) -> None:
        """Keep examples with usable images, up to the source's limit; images beyond it are not looked at."""
        folder, looks = self.source.image_folder, self.exclusion.needs_looks
        limit = len(chosen) if self.source.limit is None else self.source.limit
        kept = rejected = 0
        with ThreadPoolExecutor() as pool:
            for part in _parts(chosen, IMAGES_AT_ONCE):
                if kept == limit:
                    break
                examples = self.raw.take(pa.array(part)).to_pylist()
                new = list(
                    dict.fromkeys((folder, e["image"]) for e in examples if (folder, e["image"]) not in self.facts)
                )
                self.facts.update(zip(new, pool.map(lambda p: check_image(p[0], p[1], looks), new), strict=True))
                rows = []
                for example in examples:
                    if kept == limit:
                        break
                    image = self.facts[folder, example["image"]]
                    reason = self._image_fault(image)
                    if reason is None:
                        kept += 1
                        rows.append(self._row(example, image))
                    else:
                        rejected += 1
                        self._reject(
                            example["id"],
                            example["task"],
                            reason[0],
                            f"{self.source.path}, id {example['id']}: {reason[1]}",
                        )
                self.kept.append(pa.Table.from_pylist(rows, schema=EXAMPLES))
        if beyond := len(chosen) - kept - rejected:
            self.left_out["beyond_limit"] += beyond

    def _image_fault(self, image: ImageFacts | tuple[str, str]) -> tuple[str, str] | None:
        if not isinstance(image, ImageFacts):
            return image
        reason = self.exclusion.by_look(image.look)
        return None if reason is None else ("evaluation_image", reason)

    def table(self) -> pa.Table:
        """The kept examples (schema EXAMPLES)."""
        return pa.concat_tables(self.kept)

    def _row(self, example: dict[str, Any], image: ImageFacts) -> dict[str, object]:
        facts = {
            "source": self.source.name,
            "image_sha256": image.sha256,
            "image_format": image.format,
            "image_width": image.width,
            "image_height": image.height,
        }
        return {**{k: v for k, v in example.items() if k in EXAMPLES.names}, **facts}

    def _reject(self, example: str, task: str, reason: str, detail: str) -> None:
        self.ledger.append(
            {
                "id": example,
                "example": example,
                "source": self.source.name,
                "task": task,
                "language": "",
                "stage": "examples",
                "reason": reason,
                "detail": detail,
                "fields": [],
                "scores": None,
            }
        )


def _parts(positions: np.ndarray, size: int = 65536) -> Iterator[np.ndarray]:
    return (positions[start : start + size] for start in range(0, len(positions), size))
