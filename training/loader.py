"""Samples out of shards, through the offset index that stands beside the tars (`docs/formats.md`).

A sample is read with two plain reads at known offsets: about ten times what walking through a tar gives, and at any place. Whatever is wrong
with shards or index stops the run with the file's name and what to do. The texts of a picture that can't be decoded are left out of their batch
and told (`training/bad_samples.py` counts them and stops the run above a share); a picture is never replaced by another or by zeros.

`prefetch` makes batches ahead in threads, not in processes: Pillow's decoding and scaling, the tokenizer and reading from disk all release the
GIL, threads share one cache of decoded pictures, and nothing is copied between address spaces or pickled. Batches come out in the order
in which they were asked for, so no number of workers changes what is trained on.
"""

import hashlib
import io
import json
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from model.images import BadImage, normalise, read_image
from model.inputs import IGNORED, Layout, TokenizedText, stack, tokenize
from pipeline.storage import RemoteShards, StorageError, is_remote, open_folder

FORMAT = "polyalign-shards/1"
DECODED_IMAGES_KEPT = 512
BATCHES_AHEAD = 2
"""Batches for each worker that are made before they are wanted."""

A = TypeVar("A")


class ShardError(Exception):
    """Something is wrong with the shards; the message names the file and the remedy."""


class BadPicture(ShardError):
    """A picture in a whole shard can't be decoded."""


@dataclass(frozen=True)
class Shards:
    """The rows of the index that a run trains on, and a digest of everything that decides them."""

    folder: Path | RemoteShards
    rows: list[dict]
    """Rows of index.parquet, in the index's order."""
    images: NDArray[np.int64]
    """(rows,): which image each row is about, numbered by first appearance."""
    digest: str
    """sha256 of the manifest's list of shards and of the selection: the same digest means the same rows in the same order."""

    def column(self, name: str) -> list:
        """The column `name` of the rows."""
        return [row[name] for row in self.rows]


def open_shards(pattern: str, languages: Sequence[str] = (), keep: Callable[[dict], bool] | None = None) -> Shards:
    """The shards that `pattern` (a glob of tars in one folder) names, restricted to `languages` (all when empty) and to rows that `keep` admits.

    Raises ShardError when no tar matches, manifest.json or index.parquet is missing or from another build, a tar is missing or has another
    size than the manifest says, or no row is left.
    """
    folder, sizes = _folder_of(pattern)
    found = {name for name in sizes if fnmatch(name, pattern.rsplit("/", 1)[-1])}
    if not found:
        raise ShardError(
            f"No shard matches {pattern}. Build them with `python -m flows.translate_mix MIX --out RUN`, or correct --shards."
        )
    for name in ("manifest.json", "index.parquet"):
        if name not in sizes:
            raise ShardError(
                f"{folder}/{name} is missing: the shards were not finished or only partly copied. Run the flow again, or copy the whole folder."
            )
    manifest_path, index_path = folder / "manifest.json", folder / "index.parquet"
    manifest = json.loads(manifest_path.read_bytes())
    if manifest.get("format") != FORMAT:
        raise ShardError(
            f"{manifest_path} is of format {manifest.get('format')!r}, this trainer reads {FORMAT!r}: build the shards again."
        )
    listed = {shard["file"]: shard["bytes"] for shard in manifest["shards"]}
    if hashlib.sha256(index_path.read_bytes()).hexdigest() != manifest["index"]["sha256"]:
        raise ShardError(
            f"{index_path} is not the index that {manifest_path} names: copy both from the same build, or build the shards again."
        )
    for name in sorted(found):
        if name not in listed:
            raise ShardError(f"{folder}/{name} is not in {manifest_path}: remove the stray file, or narrow --shards.")
        if sizes[name] != listed[name]:
            raise ShardError(
                f"{folder}/{name} has {sizes[name]} bytes, its manifest says {listed[name]}: it is truncated or of another build. Copy it again."
            )
    for name in sorted(listed.keys() - found):
        if name not in sizes:  # a glob that leaves out a shard that is there is a choice
            raise ShardError(
                f"{folder}/{name} is named in {manifest_path} but is not there: copy it, or build the shards again."
            )
    rows = [
        row
        for row in pq.read_table(index_path).to_pylist()
        if row["shard"] in found and (not languages or row["language"] in languages) and (keep is None or keep(row))
    ]
    if not rows:
        raise ShardError(
            f"No text of {pattern} is left after the selection (languages: {', '.join(languages) or 'all'}). Widen it."
        )
    numbers: dict[str, int] = {}
    images = np.array([numbers.setdefault(row["key"], len(numbers)) for row in rows], dtype=np.int64)
    selection = [manifest["shards"], manifest["index"], sorted(found), [row["id"] for row in rows]]
    return Shards(folder, rows, images, hashlib.sha256(json.dumps(selection, sort_keys=True).encode()).hexdigest())


def _folder_of(pattern: str) -> tuple[Path | RemoteShards, dict[str, int]]:
    """The folder that a glob of tars names, and its files with their bytes. A local path, a file:// URL, or a URL that fsspec knows."""
    if not is_remote(pattern):
        local = Path(pattern.removeprefix("file://")).parent
        return local, open_folder(local).sizes()
    try:
        folder = open_folder(pattern.rsplit("/", 1)[0])
        sizes = folder.sizes()
        hashes = {}
        if "manifest.json" in sizes:
            manifest = json.loads(folder.read("manifest.json"))
            hashes = {entry["file"]: entry["sha256"] for entry in [*manifest["shards"], manifest["index"]]}
        return RemoteShards(folder, hashes), sizes
    except StorageError as error:
        raise ShardError(str(error)) from error


class Reader:
    """Reads texts and images of index rows. Keeps one file descriptor a shard and the last few hundred decoded images."""

    def __init__(self, folder: Path | RemoteShards, image_size: int) -> None:
        self.folder = folder
        self.image_size = image_size
        self._files: dict[str, int] = {}
        self._opening = threading.Lock()
        self._texts = lru_cache(maxsize=DECODED_IMAGES_KEPT)(self._read_texts)
        self._pixels = lru_cache(maxsize=DECODED_IMAGES_KEPT)(self._decode)

    def text(self, row: dict) -> dict:
        """The text of `row` as its shard holds it (prompt, target, language, task …)."""
        texts = self._texts(row["shard"], row["json_offset"], row["json_bytes"])
        text = texts[row["text"]] if row["text"] < len(texts) else {}
        if text.get("id") != row["id"]:
            raise ShardError(
                f"{self.folder}/{row['shard']} does not hold {row['id']} where the index says: index and tar are of different builds."
            )
        return text

    def pixels(self, row: dict) -> Tensor:
        """The image of `row`: uint8 (3, image_size, image_size), RGB, transparent parts white. Raises BadPicture."""
        return self._pixels(row["shard"], row["key"], row["extension"], row["image_offset"], row["image_bytes"])

    def image_file(self, row: dict) -> bytes:
        """The bytes of the image file of `row`, as delivered."""
        return self._read(row["shard"], row["image_offset"], row["image_bytes"])

    def _read(self, shard: str, offset: int, size: int) -> bytes:
        if isinstance(self.folder, RemoteShards):
            try:
                data = self.folder.read(shard, offset, size)
            except StorageError as error:
                raise ShardError(str(error)) from error
        else:
            with self._opening:
                if shard not in self._files:
                    self._files[shard] = os.open(self.folder / shard, os.O_RDONLY)
            data = os.pread(self._files[shard], size, offset)
        if len(data) != size:
            raise ShardError(
                f"{self.folder}/{shard} ends at byte {offset + len(data)}, the index wants {offset + size}: it is truncated. Copy or build it again."
            )
        return data

    def _read_texts(self, shard: str, offset: int, size: int) -> list[dict]:
        try:
            return json.loads(self._read(shard, offset, size))["texts"]
        except (ValueError, KeyError) as error:
            raise ShardError(
                f"{self.folder}/{shard} has no sample's JSON at byte {offset}: index and tar are of different builds."
            ) from error

    def _decode(self, shard: str, key: str, extension: str, offset: int, size: int) -> Tensor:
        data = io.BytesIO(self._read(shard, offset, size))
        try:
            return read_image(data, self.image_size)
        except BadImage as error:
            raise BadPicture(
                f"{key}.{extension} in {self.folder}/{shard} can't be decoded ({error}). "
                "Repair or remove the image at its source and build the shards again."
            ) from error


@dataclass(frozen=True)
class Batch:
    """Some samples, each distinct image once."""

    pixel_values: Tensor
    """float32 (images, 3, size, size), normalised."""
    image_of_text: Tensor
    """int64 (texts,)."""
    text: dict[str, Tensor]
    """What `model.inputs.stack` returns."""
    rows: list[dict]
    """The index rows of the texts."""
    tokenized: list[TokenizedText]
    target_bytes: list[int]
    """UTF-8 bytes of each target (of what is left of it, where it was cut)."""
    left_out: list[int]
    """Places among the rows that were asked for of those whose picture can't be decoded."""
    vision_states: Tensor | None = None
    """The vision encoder's output (images, patches + 1, width), where it was read instead of pixels; `pixel_values` then has no image."""

    @property
    def target_tokens(self) -> int:
        return int((self.text["labels"] != IGNORED).sum()) if self.rows else 0

    def to(self, device: torch.device) -> "Batch":
        moved = {name: tensor.to(device, non_blocking=True) for name, tensor in self.text.items()}
        return replace(
            self,
            pixel_values=self.pixel_values.to(device, non_blocking=True),
            image_of_text=self.image_of_text.to(device, non_blocking=True),
            text=moved,
            vision_states=None if self.vision_states is None else self.vision_states.to(device, non_blocking=True),
        )

    def pinned(self) -> "Batch":
        """The same in page-locked memory, from which a GPU copies while it computes."""
        return replace(
            self,
            pixel_values=self.pixel_values.pin_memory(),
            image_of_text=self.image_of_text.pin_memory(),
            text={name: tensor.pin_memory() for name, tensor in self.text.items()},
            vision_states=None if self.vision_states is None else self.vision_states.pin_memory(),
        )


@dataclass(frozen=True)
class Collator:
    """Turns index rows into a batch."""

    reader: Reader
    tokenizer: PreTrainedTokenizerBase
    layout: Layout
    max_prompt_tokens: int
    max_target_tokens: int
    states: Callable[[dict], Tensor] | None = None
    """From an index row to the vision encoder's output for its image (`training.features`), instead of its pixels."""

    def __call__(self, rows: Sequence[dict], image_rows: Sequence[dict] | None = None) -> Batch:
        """The batch of `rows` without those whose picture can't be decoded.

        `image_rows` names, for each, a row whose image it gets instead of its own (to measure what images are worth).
        """
        places: dict[str, int] = {}
        seen: list[Tensor] = []
        see = self.states or self.reader.pixels
        bad: set[str] = set()
        shown = image_rows or rows
        for row in shown:
            if row["key"] not in places and row["key"] not in bad:
                try:
                    seen.append(see(row))
                    places[row["key"]] = len(seen) - 1
                except BadPicture:
                    bad.add(row["key"])
        left_out = [place for place, image in enumerate(shown) if image["key"] in bad]
        rows = [row for row, image in zip(rows, shown, strict=True) if image["key"] in places]
        no_pixels = torch.empty(0, 3, self.reader.image_size, self.reader.image_size)
        if not rows:
            return Batch(no_pixels, torch.empty(0, dtype=torch.int64), {}, [], [], [], left_out)
        texts = [self.reader.text(row) for row in rows]
        tokenized = tokenize(
            self.tokenizer,
            self.layout,
            [text["prompt"] for text in texts],
            [text["target"] for text in texts],
            [text["prompt_language"] for text in texts],
            [text["target_language"] for text in texts],
            self.max_prompt_tokens,
            self.max_target_tokens,
        )
        return Batch(
            pixel_values=no_pixels if self.states else normalise(torch.stack(seen)),
            vision_states=torch.stack(seen) if self.states else None,
            image_of_text=torch.tensor([places[row["key"]] for row in shown if row["key"] in places]),
            text=stack(self.layout, tokenized),
            rows=rows,
            tokenized=tokenized,
            target_bytes=[
                len(
                    (
                        self.tokenizer.decode(ids.target, skip_special_tokens=True)
                        if ids.target_was_cut
                        else text["target"]
                    ).encode()
                )
                for ids, text in zip(tokenized, texts, strict=True)
            ],
            left_out=left_out,
        )


def prefetch(
    asked: Iterator[A], make: Callable[[A], Batch], workers: int, pin: bool = False
) -> Generator[tuple[A, Batch], None, None]:
    """(what was asked, its batch) for all of `asked`, in order, made ahead by `workers` threads; 0 makes each when it is wanted.

    An error in a thread is raised here, at the batch that it belongs to. Close the iterator to stop the threads.
    """

    def made(what: A) -> Batch:
        batch = make(what)
        return batch.pinned() if pin and batch.rows else batch

    if not workers:
        for what in asked:
            yield what, made(what)
        return
    waiting: deque[tuple[A, Future[Batch]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")
    try:
        for what in asked:
            waiting.append((what, pool.submit(made, what)))
            if len(waiting) > BATCHES_AHEAD * workers:
                first, batch = waiting.popleft()
                yield first, batch.result()
        while waiting:
            first, batch = waiting.popleft()
            yield first, batch.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


TEXTS_MEASURED = 32
"""Texts a language whose tokens are counted to estimate the lengths of the others."""


def estimate_lengths(shards: Shards, reader: Reader, tokenizer: PreTrainedTokenizerBase) -> NDArray[np.int64]:
    """Tokens of each row's prompt and target, (rows,), estimated from its characters.

    How many tokens a character makes depends on the language: it is measured on its `TEXTS_MEASURED` first texts by the hash of their ids, so that
    the same shards and tokenizer always give the same lengths.
    """
    by_language: dict[str, list[tuple[bytes, int]]] = {}
    for number, row in enumerate(shards.rows):
        by_language.setdefault(row["language"], []).append((hashlib.sha256(row["id"].encode()).digest(), number))
    characters = np.array([row["prompt_characters"] + row["target_characters"] for row in shards.rows], dtype=np.int64)
    tokens_a_character = np.ones(len(shards.rows))
    for found in by_language.values():
        measured = [number for _, number in sorted(found)[:TEXTS_MEASURED]]
        texts = [reader.text(shards.rows[number]) for number in measured]
        ids = tokenizer([f"{text['prompt']} {text['target']}" for text in texts], add_special_tokens=False)["input_ids"]
        ratio = sum(map(len, ids)) / max(1, int(characters[measured].sum()))
        tokens_a_character[[number for _, number in found]] = ratio
    return np.maximum(1, np.rint(characters * tokens_a_character)).astype(np.int64)
