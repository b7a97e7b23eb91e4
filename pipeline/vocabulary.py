"""Vocabulary maps: which tokens the model may choose from in each language, so that its output layer is computed for those alone.

NLLB chooses every token among 256,206, of all its languages; on a CPU the product with that matrix is more than half of greedy decoding. A language
uses a few thousand of them. A map lists, for each language,

    the tokens of real text of that language, tokenised by the very model's tokenizer;
    every token of its script, where these are at most an eighth of the vocabulary (so Thai or Georgian lose nothing, and Latin is not let in whole);
    every token without a letter (digits, punctuation), and every single letter of its script and of the English alphabet, so that any word can
    still be spelled.

A sentence that needs another token is translated otherwise than without the map, so maps are off unless a mix names their file, and the file is made
for one vocabulary and refused by another. `compare` says what a map costs: the share of sentences whose translation changes, and chrF against
human translations with and without.

    python -m pipeline.vocabulary learn   maps.json --model MODEL --text corpus.parquet more-text/
    python -m pipeline.vocabulary compare maps.json --model MODEL --pairs held-out.parquet

Text is a Parquet or JSONL table with the columns `language` and `text` (for `compare` also `english`), or a folder of files named LANGUAGE.txt.

CTranslate2 takes one map a model folder (`vmap.txt`), says nothing when it is not there, and mixes up tokens when one loaded model is given several
maps by rules (`Decoder::update_output_layer` of 4.8 adds the new places of tokens to the old ones). So the engine loads the model once for each
language from a folder that links to the model's files and has that language's map, one at a time.
"""

import argparse
import json
import logging
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from pipeline import files
from pipeline.languages import BY_NLLB, LANGUAGES, find_language
from pipeline.quality.characters import Characters, column, table_of
from pipeline.quality.script import letters_of

logger = logging.getLogger(__name__)

VERSION = 1
WHOLE_SCRIPT_SHARE = 1 / 8
"""A script with at most this share of the vocabulary is allowed whole."""
ALPHABET = r"[A-Za-z]"
TEXTS_AT_ONCE = 10_000


class VocabularyError(ValueError):
    """Vocabulary maps that can't be made or used."""


@dataclass(frozen=True)
class VocabularyMaps:
    """The maps of one vocabulary. Read them with `read_maps`."""

    vocabulary: str
    """`vocabulary_fingerprint` of the tokenizer that they were made with."""
    tokens: dict[str, tuple[str, ...]]
    """The tokens of each language (NLLB code), sorted."""
    learnt_from: dict[str, int]
    """How many texts each language's tokens were learnt from."""

    @cached_property
    def fingerprint(self) -> str:
        return files.sha256_json([VERSION, self.vocabulary, self.tokens])

    def write(self, path: Path) -> None:
        content = {"vocabulary": self.vocabulary, "learnt_from": self.learnt_from, "tokens": self.tokens}
        files.write_text(path, json.dumps(content, ensure_ascii=False, sort_keys=True) + "\n")


def vocabulary_fingerprint(tokenizer: Any) -> str:
    """sha256 over the tokens and their ids: maps of one vocabulary mean nothing in another."""
    return files.sha256_json(sorted(tokenizer.get_vocab().items()))


def read_maps(path: Path, tokenizer: Any) -> VocabularyMaps:
    """Read maps for the vocabulary of `tokenizer`. Raises VocabularyError when the file is missing, damaged, or of another vocabulary."""
    again = f"Make it with: python -m pipeline.vocabulary learn {path} --model … --text …"
    try:
        content = files.read_json(path)
        maps = VocabularyMaps(
            content["vocabulary"], {k: tuple(v) for k, v in content["tokens"].items()}, content["learnt_from"]
        )
    except OSError as error:
        raise VocabularyError(f"The vocabulary maps {path} can't be read: {error}. {again}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VocabularyError(f"{path} is no file of vocabulary maps ({error!r}). {again}") from error
    if maps.vocabulary != vocabulary_fingerprint(tokenizer):
        raise VocabularyError(f"The vocabulary maps {path} were made for another model's vocabulary. {again}")
    return maps


# --- learning ---------------------------------------------------------------------------------------------------------------------------------


class _Pieces:
    """The vocabulary as columns of characters, without special tokens and language codes."""

    def __init__(self, tokenizer: Any) -> None:
        special = {t.content for t in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
        # a map file separates tokens by spaces and lines; NLLB has no token with either
        self.tokens = [t for t in sorted(tokenizer.get_vocab()) if t not in special and not set(t) & set(" \t\r\n")]
        self.characters = Characters(column([t.replace("▁", "") for t in self.tokens]))
        self.letters = self.characters.count_in(table_of(r"[\p{L}\p{M}]"))

    def of_script(self, script: str) -> np.ndarray:
        """bool: pieces with letters, all of them in the script."""
        own = self.characters.count_in(letters_of(script) | table_of(r"\p{M}"))
        return np.asarray((self.letters > 0) & (own >= self.letters))

    def named(self, chosen: np.ndarray) -> set[str]:
        return {self.tokens[i] for i in np.flatnonzero(chosen).tolist()}


def learn(texts: Iterable[tuple[str, str]], tokenizer: Any, min_count: int = 1) -> VocabularyMaps:
    """Learn maps from (language, text). A token counts from `min_count` occurrences in its language's texts on.

    Raises VocabularyError for a language that is not in the table, and when there is no text at all.
    """
    seen: dict[str, Counter[str]] = {}
    number: Counter[str] = Counter()
    waiting: dict[str, list[str]] = {}

    def count(language: str) -> None:
        counter = seen.setdefault(language, Counter())
        for encoding in tokenizer.backend_tokenizer.encode_batch(waiting.pop(language), add_special_tokens=False):
            counter.update(encoding.tokens)

    for language, text in texts:
        if language not in BY_NLLB:
            raise VocabularyError(f"There is no language {language!r} in languages.csv; give NLLB codes.")
        waiting.setdefault(language, []).append(text)
        number[language] += 1
        if len(waiting[language]) >= TEXTS_AT_ONCE:
            count(language)
    for language in list(waiting):
        count(language)
    if not seen:
        raise VocabularyError("There is no text to learn from.")
    pieces = _Pieces(tokenizer)
    known = set(pieces.tokens)
    shared = pieces.named(pieces.letters == 0)
    single = pieces.characters.lengths == 1
    alphabet = pieces.named(single & (pieces.characters.count_in(table_of(ALPHABET)) == 1))
    tokens = {}
    for language in sorted(seen):
        own = pieces.of_script(BY_NLLB[language].script)
        whole = own.sum() <= WHOLE_SCRIPT_SHARE * len(pieces.tokens)
        used = {token for token, times in seen[language].items() if times >= min_count} & known
        tokens[language] = tuple(sorted(used | shared | alphabet | pieces.named(own if whole else own & single)))
    return VocabularyMaps(vocabulary_fingerprint(tokenizer), tokens, {k: number[k] for k in sorted(number)})


class Row(NamedTuple):
    language: str
    text: str
    english: str


def read_texts(paths: Sequence[Path], with_english: bool = False) -> Iterator[Row]:
    """Rows of tables and of folders with LANGUAGE.txt. Raises VocabularyError that names the file and what it lacks."""
    wanted = ["language", "text", *(["english"] if with_english else [])]
    for path in paths:
        try:
            if path.is_dir() and not with_english:
                found = sorted(p for p in path.glob("*.txt"))
                if not found:
                    raise VocabularyError(f"{path} has no file LANGUAGE.txt.")
                for file in found:
                    language = find_language(file.stem).nllb
                    yield from (Row(language, line, "") for line in file.read_text(encoding="utf-8").splitlines())
            elif path.suffix == ".parquet":
                for batch in pq.ParquetFile(path).iter_batches(columns=wanted):
                    if batch.num_columns < len(wanted):
                        raise VocabularyError(f"{path} must have the columns {', '.join(wanted)}.")
                    columns = [batch[name].to_pylist() for name in wanted]
                    rows = (c for c in zip(*columns, strict=True) if None not in c)
                    yield from (Row(c[0], c[1], c[2] if with_english else "") for c in rows)
            elif path.suffix == ".jsonl":
                for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                    record = json.loads(line)
                    if not isinstance(record, dict) or any(not isinstance(record.get(k), str) for k in wanted):
                        raise VocabularyError(f"{path}, line {number} must have the texts {', '.join(wanted)}.")
                    yield Row(record["language"], record["text"], record.get("english", ""))
            else:
                raise VocabularyError(f"{path} must be a .parquet or .jsonl table, or a folder of LANGUAGE.txt files.")
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise VocabularyError(f"{path} can't be read: {error}.") from error


# --- decoding with a map -----------------------------------------------------------------------------------------------------------------------


def folder_with_map(folder: Path, fingerprint: str, maps: VocabularyMaps, language: str, cache: Path) -> Path:
    """A folder like `folder` (by links) with the map of one language as CTranslate2 reads it. `fingerprint`: of the model."""
    target = cache / "with-map" / f"{fingerprint[:32]}-{maps.fingerprint[:16]}-{language}"
    if (target / "vmap.txt").exists() and (target / "model.bin").exists():  # a link can have lost its file
        return target
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        for file in folder.iterdir():
            if file.is_file() and file.name != "vmap.txt":
                (aside / file.name).symlink_to(file.resolve())
        files.write_text(aside / "vmap.txt", f"\t{' '.join(maps.tokens[language])}\n")
        shutil.rmtree(target, ignore_errors=True)
        try:
            os.replace(aside, target)
        except OSError:
            if not (target / "vmap.txt").exists():  # else another process made it in the meantime
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


# --- command ----------------------------------------------------------------------------------------------------------------------------------


def compare(maps_path: Path, model: str, pairs: Iterable[Row], limit: int, write: Any) -> None:
    """Translate English with and without maps and write a table: share of translations that change, and chrF of each against the human text."""
    from sacrebleu import CHRF

    from pipeline.mix import TranslationConfig
    from pipeline.translate import load_engine

    by_language: dict[str, dict[str, str]] = {}
    for row in pairs:
        mine = by_language.setdefault(row.language, {})
        if len(mine) < limit:
            mine.setdefault(row.english, row.text)
    engines = [load_engine(TranslationConfig(model=model, vocabulary_maps=m)) for m in (None, maps_path)]
    maps = engines[1].maps
    assert maps is not None
    head = f"{'learnt from':>12} {'tokens':>8} {'texts':>7} {'changed':>8} {'chrF without':>13} {'with':>6}"
    write(f"{'language':<30} {head}\n")
    total = [0, 0, 0.0, 0.0, 0]
    for language in (x.nllb for x in LANGUAGES if x.nllb in by_language and x.nllb in maps.tokens):
        english, human = list(by_language[language]), list(by_language[language].values())
        plain, mapped = (e.translate(english, english, language)["text"].to_pylist() for e in engines)
        changed = sum(a != b for a, b in zip(plain, mapped, strict=True))
        scores = [CHRF().corpus_score(texts, [human]).score for texts in (plain, mapped)]
        learnt, size = maps.learnt_from.get(language, 0), len(maps.tokens[language])
        numbers = f"{learnt:>12,} {size:>8,} {len(english):>7,} {changed / len(english):>8.1%}"
        write(f"{language:<10} {BY_NLLB[language].name:<19} {numbers} {scores[0]:>13.1f} {scores[1]:>6.1f}\n")
        total = [a + b for a, b in zip(total, [len(english), changed, *scores, 1], strict=True)]
    if not total[4]:
        raise VocabularyError("No language has both pairs and a map.")
    means = f"{total[2] / total[4]:>13.2f} {total[3] / total[4]:>6.2f}"
    write(f"{total[4]:>4} languages {'':<36} {total[0]:>7,} {total[1] / total[0]:>8.2%} {means}\n")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.vocabulary",
        description=(__doc__ or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    learning = commands.add_parser("learn", help="make maps from text")
    comparing = commands.add_parser("compare", help="measure what maps cost in quality")
    for command in (learning, comparing):
        command.add_argument("maps", type=Path, help="the file of maps (.json)")
        command.add_argument("--model", required=True, help="a hub id, a Hugging Face folder, or a converted folder")
    learning.add_argument("--text", type=Path, nargs="+", required=True, help="tables, or folders of LANGUAGE.txt")
    learning.add_argument("--min-count", type=int, default=1, help="occurrences that a token needs in a language")
    comparing.add_argument("--pairs", type=Path, nargs="+", required=True, help="tables of english, language, text")
    comparing.add_argument("--limit", type=int, default=200, help="texts in each language (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "compare":
            pairs = read_texts(options.pairs, with_english=True)
            compare(options.maps, options.model, pairs, options.limit, sys.stdout.write)
            return 0
        from pipeline.mix import TranslationConfig
        from pipeline.translate import load_engine

        files.check_writable(options.maps.parent)
        tokenizer = load_engine(TranslationConfig(model=options.model)).tokenizer
        maps = learn(((r.language, r.text) for r in read_texts(options.text)), tokenizer, options.min_count)
        maps.write(options.maps)
        for language, tokens in maps.tokens.items():
            sys.stdout.write(f"{language:<10} {maps.learnt_from[language]:>10,} texts {len(tokens):>8,} tokens\n")
        sys.stdout.write(f"{len(maps.tokens)} maps over {len(tokenizer.get_vocab()):,} tokens in {options.maps}\n")
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
