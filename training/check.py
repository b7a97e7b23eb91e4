"""What can be known to go wrong before training (`realign.py --check`): nothing is trained and nothing is written.

- Shards: every byte against the manifest, every image decoded, every index row against its tar (`pipeline.shards.verify`).
- Tags: each text's languages and task are ones that the project knows, the same in index and tar, and no prompt or target is empty.
- Lengths: how many prompts and targets are longer than training will read, by language. That is told, and is no error.
- Leakage (--benchmark-images): training images that are images of a benchmark, by sha256, or look like one, by perceptual hash.
"""

import hashlib
import io
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from model.inputs import Layout, language_tokens, tokenize
from pipeline.corpus import TASKS
from pipeline.languages import BY_NLLB
from pipeline.sources.images import look_of
from pipeline.storage import RemoteShards
from pipeline.verify import verify
from training.loader import Reader, ShardError, Shards

log = logging.getLogger(__name__)

LOOKS_LIKE = 4
"""Bits of 64 by which the perceptual hashes of one picture in two sizes or qualities differ at most, as a rule; unrelated ones differ by 32."""

TEXTS_AT_ONCE = 512


@dataclass
class Findings:
    """What a check found."""

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Worth knowing, but no reason not to train."""

    def text(self) -> str:
        lines = [*self.notes, *(f"problem: {problem}" for problem in self.problems)]
        lines.append(f"{len(self.problems)} problems" if self.problems else "nothing stands in the way of training")
        return "\n".join(lines) + "\n"


def check(
    shards: Shards,
    tokenizer: PreTrainedTokenizerBase,
    max_prompt_tokens: int,
    max_target_tokens: int,
    benchmark_images: Sequence[Path] = (),
) -> Findings:
    """Everything that this file is about. Raises OSError or ValueError when `benchmark_images` can't be read."""
    known = read_hashes(benchmark_images)
    found = Findings()
    log.info("checking the shards' bytes and images")
    found.problems += verify(shards.folder.folder if isinstance(shards.folder, RemoteShards) else shards.folder)
    reader = Reader(shards.folder, image_size=1)
    log.info("checking %d texts", len(shards.rows))
    found.problems += check_tags(shards, reader)
    found.notes += check_lengths(shards, reader, tokenizer, max_prompt_tokens, max_target_tokens)
    if known is not None:
        log.info("comparing %d images with %d of benchmarks", shards.images.max() + 1, len(known))
        found.problems += leaks(shards, reader, known)
    else:
        found.notes.append("leakage was not checked: name the benchmarks' images with --benchmark-images")
    return found


def check_tags(shards: Shards, reader: Reader) -> Iterator[str]:
    """Yield what is wrong with a text's languages, task, prompt or target."""
    for row in tqdm(shards.rows, "tags", mininterval=1):
        where = f"{shards.folder}/{row['shard']}, text {row['id']}"
        try:
            text = reader.text(row)
        except ShardError as error:
            yield str(error)
            continue
        for column in ("language", "task"):
            if text[column] != row[column]:
                yield f"{where}: the index says {column} {row[column]}, the tar {text[column]}"
        for column in ("language", "prompt_language", "target_language"):
            if text[column] not in BY_NLLB:
                yield f"{where}: {column} {text[column]!r} is not in pipeline/languages.csv"
        if text["task"] not in TASKS:
            yield f"{where}: unknown task {text['task']!r}; there are {', '.join(TASKS)}"
        for side in ("prompt", "target"):
            if not text[side].strip():
                yield f"{where}: the {side} is empty"


def check_lengths(
    shards: Shards, reader: Reader, tokenizer: PreTrainedTokenizerBase, max_prompt_tokens: int, max_target_tokens: int
) -> list[str]:
    """How many prompts and targets are cut, with the languages where most are."""
    layout = Layout(
        is_encoder_decoder=True,
        placeholder=-1,
        query_tokens=0,
        pad=tokenizer.pad_token_id,
        eos=tokenizer.eos_token_id,
        language_tokens=language_tokens(tokenizer),
    )
    cut: dict[str, Counter[str]] = {"prompt": Counter(), "target": Counter()}
    for start in tqdm(range(0, len(shards.rows), TEXTS_AT_ONCE), "lengths", mininterval=1):
        texts = [reader.text(row) for row in shards.rows[start : start + TEXTS_AT_ONCE]]
        ids = tokenize(
            tokenizer,
            layout,
            [text["prompt"] for text in texts],
            [text["target"] for text in texts],
            [text["prompt_language"] for text in texts],
            [text["target_language"] for text in texts],
            max_prompt_tokens,
            max_target_tokens,
        )
        for text, tokens in zip(texts, ids, strict=True):
            cut["prompt"][text["language"]] += tokens.prompt_was_cut
            cut["target"][text["language"]] += tokens.target_was_cut
    languages = Counter(shards.column("language"))
    notes = []
    for side, limit in (("prompt", max_prompt_tokens), ("target", max_target_tokens)):
        number = cut[side].total()
        worst = sorted((name for name in cut[side] if cut[side][name]), key=lambda x: -cut[side][x] / languages[x])[:5]
        where = ", ".join(f"{name} {cut[side][name] / languages[name]:.1%}" for name in worst)
        notes.append(
            f"{number} of {len(shards.rows)} {side}s are longer than {limit} tokens and will be cut (--max-{side}-tokens)"
            + (f"; most in {where}" if where else "")
        )
    return notes


@dataclass(frozen=True)
class Hashes:
    """Of the images of benchmarks."""

    sha256: dict[str, str]
    """sha256 → what it is the hash of."""
    perceptual: NDArray[np.uint64]
    """(images,)"""
    names: list[str]
    """What each perceptual hash is the hash of."""

    def __len__(self) -> int:
        return max(len(self.sha256), len(self.names))


def read_hashes(paths: Sequence[Path]) -> Hashes | None:
    """Hashes of images: of all in a folder, or of a file with one a line (64 hexadecimal digits: sha256; 16: perceptual) and, if you like, a name.

    None for no paths. Raises FileNotFoundError, or ValueError that names the line.
    """
    if not paths:
        return None
    exact: dict[str, str] = {}
    perceptual: list[int] = []
    names: list[str] = []
    for path in paths:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in Image.registered_extensions())
            if not files:
                raise FileNotFoundError(
                    f"There is no image in {path}; --benchmark-images names a folder of images or a list of hashes."
                )
            for file in tqdm(files, str(path), mininterval=1):
                data = file.read_bytes()
                exact[hashlib.sha256(data).hexdigest()] = str(file)
                try:
                    with Image.open(io.BytesIO(data)) as image:
                        perceptual.append(look_of(image))
                except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                    raise ValueError(
                        f"The benchmark image {file} can't be decoded ({error}): repair it or take it out."
                    ) from error
                names.append(str(file))
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            hash_, _, name = line.strip().partition(" ")
            if re.fullmatch("[0-9a-f]{64}", hash_):
                exact[hash_] = name.strip() or f"{path}, line {number}"
            elif re.fullmatch("[0-9a-f]{16}", hash_):
                perceptual.append(int(hash_, 16))
                names.append(name.strip() or f"{path}, line {number}")
            elif hash_:
                raise ValueError(f"{path}, line {number}: {hash_[:20]!r} is no hash of 16 or 64 hexadecimal digits.")
    return Hashes(exact, np.array(perceptual, dtype=np.uint64), names)


def leaks(shards: Shards, reader: Reader, known: Hashes) -> Iterator[str]:
    """Yield each training image that is, or looks like, an image of a benchmark."""
    rows = list({row["key"]: row for row in shards.rows}.values())
    for row in tqdm(rows, "leakage", mininterval=1):
        data = reader.image_file(row)
        where = f"{row['key']}.{row['extension']} in {shards.folder}/{row['shard']}"
        same = known.sha256.get(hashlib.sha256(data).hexdigest())
        if same:
            yield f"{where} is the benchmark image {same}: take it out of the mix"
            continue
        try:
            with Image.open(io.BytesIO(data)) as image:
                own = np.uint64(look_of(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # `verify` has said so
        if len(known.perceptual):
            apart = np.bitwise_count(known.perceptual ^ own)
            nearest = int(apart.argmin())
            if apart[nearest] <= LOOKS_LIKE:
                yield (
                    f"{where} looks like the benchmark image {known.names[nearest]} ({apart[nearest]} of 64 bits apart): "
                    "look at both, and take it out of the mix"
                )
