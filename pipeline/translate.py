"""NLLB on CTranslate2: sentences in, translations with their scores out.

CTranslate2 because it is several times faster than transformers on the same cores and gives the same tokens (docs/decisions.md). A checkpoint is a
converted CTranslate2 folder, a Hugging Face folder or a hub id; the last two are converted once into a cache, named by their content.

What is promised: a sentence's translation depends on the sentence, the language, the model and the decoding settings (up to the rounding of
different batch shapes). A sentence that is longer than the model was trained for is translated in parts (`split.py`) or, where it has none, reported:
never truncated. A translation that hit the length limit says so. An output with a visible fault is decoded again by the ladder of `retry.py`.

Sentences of like length go together, the longest first, and every group is handed to CTranslate2 before the first is waited for: its workers are
busy until the last. With vocabulary maps (`vocabulary.py`) a group has one language, and the model is loaded for one language at a time.
"""

import argparse
import hashlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tqdm import tqdm

from pipeline import files
from pipeline.corpus import TRANSLATIONS
from pipeline.languages import ENGLISH
from pipeline.memory import Memory
from pipeline.mix import TranslationConfig
from pipeline.processes import available_cores
from pipeline.retry import FIRST, LADDER, SPLIT, Output, Rung, climb, join_outputs
from pipeline.split import split_long
from pipeline.vocabulary import VocabularyMaps, folder_with_map, read_maps

if TYPE_CHECKING:
    import ctranslate2

logger = logging.getLogger(__name__)

VERSION = 2

LENGTH_CLASS = 16
"""Sentences are decoded together with those whose source has about as many tokens: the same multiple of this."""

TEXTS_AT_ONCE = 10_000

BATCH_TOKENS = {"cpu": 2048, "cuda": 4096}
"""Source tokens of a batch. Of NLLB-600M's shape one core decodes a third more tokens a second in batches of 32 sentences than of 16, and no more
from there on; larger batches leave workers idle at the end."""

BLOCK_SENTENCES = {"cpu": 1000, "cuda": 4000}
"""Sentences that go into the memory together: a minute or two of NLLB-600M on a few cores, and less on a GPU."""

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "added_tokens.json",
)


class ModelError(ValueError):
    """A translation model that can't be used."""


def max_target_tokens(source_tokens: int) -> int:
    """Length limit of a translation, target prefix included: a function of the source's length class alone. Subword counts of one sentence
    differ between languages by up to about three; beyond that an output is a loop."""
    longest = -(-source_tokens // LENGTH_CLASS) * LENGTH_CLASS
    return 3 * longest + 16


def cache_folder() -> Path:
    return Path(os.environ.get("POLYALIGN_CACHE") or Path.home() / ".cache" / "polyalign")


def choose_device(device: str) -> str:
    """`auto` is a GPU if CTranslate2 sees one. Raises ModelError when a GPU is asked for and there is none."""
    import ctranslate2

    gpus = ctranslate2.get_cuda_device_count()
    if device == "auto":
        return "cuda" if gpus else "cpu"
    if device == "cuda" and not gpus:
        raise ModelError("The mix asks for `device: cuda`, but CTranslate2 sees no GPU here. Use `device: auto`.")
    return device


def choose_compute_type(compute_type: str, device: str) -> str:
    """The type to compute in; `auto` is the fastest that the device supports. Raises ModelError that lists what is supported."""
    import ctranslate2

    supported = ctranslate2.get_supported_compute_types(device)
    if compute_type == "auto":
        order = ("int8_float16", "float16", "float32") if device == "cuda" else ("int8", "float32")
        return next(t for t in order if t in supported)
    if compute_type not in supported:
        raise ModelError(
            f"This {device} can't compute in {compute_type!r}; it can in {', '.join(sorted(supported))}, or use `auto`."
        )
    return compute_type


def find_model(model: str, compute_type: str) -> Path:
    """A folder that CTranslate2 and AutoTokenizer load: `model` itself, or its conversion in the cache.

    Raises ModelError that says what is wrong with the folder or the hub id.
    """
    folder = Path(model)
    if not folder.exists():
        folder = _download(model)
    if not folder.is_dir():
        raise ModelError(f"The translation model {model} is not a folder.")
    if not any((folder / name).exists() for name in ("tokenizer.json", "sentencepiece.bpe.model")):
        raise ModelError(
            f"The translation model {folder} has no tokenizer.json and no sentencepiece.bpe.model beside its weights."
        )
    if (folder / "model.bin").exists():
        return folder
    if not (folder / "config.json").exists():
        raise ModelError(
            f"{folder} has neither model.bin (CTranslate2) nor config.json (Hugging Face), so it is no translation model."
        )
    kind = files.read_json(folder / "config.json").get("model_type")
    if kind != "m2m_100":
        raise ModelError(f"{folder} is a {kind} model; this engine takes NLLB's architecture, m2m_100.")
    target = cache_folder() / "converted" / f"{folder_fingerprint(folder)[:32]}-{compute_type}"
    if not (target / "model.bin").exists():
        _convert(folder, target, compute_type)
    return target


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        patterns = ["*.json", "*.model", "*.safetensors", "model.bin", "*.txt"]
        found = Path(snapshot_download(model, allow_patterns=patterns))
        if not any(found.glob("*.safetensors")) and not (found / "model.bin").exists():
            found = Path(snapshot_download(model, allow_patterns=[*patterns, "pytorch_model*.bin"]))
        return found
    except HFValidationError as error:
        raise ModelError(f"There is no folder {model}, and it is no hub id either ({error}).") from error
    except (
        Exception
    ) as error:  # the hub client raises a different type for each way to fail: offline, not found, gated, disk full
        raise ModelError(
            f"There is no folder {model}, and the hub did not give a model of that id ({type(error).__name__}: {error}). "
            "Check the spelling, the network, and `hf auth login` for gated models."
        ) from error


def _convert(folder: Path, target: Path, compute_type: str) -> None:
    import ctranslate2

    logger.info("converting %s to CTranslate2 (%s), once", folder, compute_type)
    aside = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.parent.mkdir(parents=True, exist_ok=True)
    copied = [name for name in TOKENIZER_FILES if (folder / name).exists()]
    converter = ctranslate2.converters.TransformersConverter(str(folder), copy_files=copied, low_cpu_mem_usage=True)
    try:
        converter.convert(str(aside), quantization=compute_type)
        os.replace(aside, target)
    except OSError:
        if not (target / "model.bin").exists():  # else another process converted it in the meantime
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def folder_fingerprint(folder: Path) -> str:
    """sha256 over the model's files (weights, configuration, vocabulary, tokenizer), hexadecimal."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in {".bin", ".json", ".model", ".safetensors", ".txt"}:
            digest.update(f"{path.name}\0{files.sha256_file(path)}\0".encode())
    return digest.hexdigest()


class _Mapped:
    """The one model that is loaded with a vocabulary map."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.language = ""
        self.translator: ctranslate2.Translator | None = None


@dataclass(frozen=True)
class Engine:
    """A loaded model and its decoding settings. Make it with `load_engine`."""

    folder: Path
    fingerprint: str
    device: str
    compute_type: str
    beam_size: int
    max_source_tokens: int
    batch_tokens: int
    block_sentences: int
    threads: int
    retry: bool = True
    device_index: tuple[int, ...] = (0,)
    maps: VocabularyMaps | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything but the sentence and the language that decides a translation."""
        return {
            "version": VERSION,
            "fingerprint": self.fingerprint,
            "compute_type": self.compute_type,
            "beam_size": self.beam_size,
            "source_language": ENGLISH,
            "max_source_tokens": self.max_source_tokens,
            "retry": [list(rung) for rung in LADDER] if self.retry else [],
            **({"vocabulary_maps": self.maps.fingerprint} if self.maps else {}),
        }

    @property
    def key(self) -> str:
        """A hash of `settings`, 16 hexadecimal digits."""
        return files.sha256_json(self.settings)[:16]

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.folder), src_lang=ENGLISH)

    @cached_property
    def translator(self) -> "ctranslate2.Translator":
        """The model without a map."""
        return self._load(self.folder)

    def _load(self, folder: Path) -> "ctranslate2.Translator":
        import ctranslate2

        inter, intra = (self.threads, 1) if self.device == "cpu" else (1, 0)
        return ctranslate2.Translator(
            str(folder),
            device=self.device,
            device_index=list(self.device_index),
            compute_type=self.compute_type,
            inter_threads=inter,
            intra_threads=intra,
        )

    @contextmanager
    def _translator_for(self, language: str) -> Iterator["ctranslate2.Translator"]:
        """The model with the map of a language ("": without), for one thread at a time: another language's weights take its place."""
        if not language:
            yield self.translator
            return
        with self._mapped.lock:
            if self._mapped.language != language:
                self._mapped.translator = None
                assert self.maps is not None
                folder = folder_with_map(self.folder, self.fingerprint, self.maps, language, cache_folder())
                self._mapped.translator, self._mapped.language = self._load(folder), language
            assert self._mapped.translator is not None
            yield self._mapped.translator

    @cached_property
    def _mapped(self) -> "_Mapped":
        return _Mapped()

    @cached_property
    def _ids(self) -> dict[str, int]:
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return vocabulary

    def check_languages(self, languages: Sequence[str]) -> None:
        """Raises ModelError that lists the languages that the model has no code for."""
        vocabulary = self.tokenizer.get_vocab()
        if missing := [code for code in (ENGLISH, *languages) if code not in vocabulary]:
            raise ModelError(
                f"The translation model {self.folder} has no language code {', '.join(missing)}. Leave them out of the mix."
            )
        if self.maps and (unmapped := [code for code in languages if code not in self.maps.tokens]):
            logger.warning(
                "%d languages have no vocabulary map and are decoded over the whole vocabulary: %s",
                len(unmapped),
                ", ".join(unmapped),
            )

    def translate(self, keys: Sequence[str], texts: Sequence[str], languages: str | Sequence[str]) -> pa.Table:
        """Translate English sentences, all into one language or each into its own. Returns a table (schema TRANSLATIONS) in the order
        given."""
        targets = [languages] * len(texts) if isinstance(languages, str) else list(languages)
        pieces = [self._parts(text) for text in texts]
        parts = [part for sentence in pieces for part in sentence[::2]]
        languages_of_parts = [target for target, sentence in zip(targets, pieces, strict=True) for _ in sentence[::2]]
        first = self.decode(parts, languages_of_parts, Rung(FIRST, self.beam_size))
        climbed = iter(
            climb(parts, languages_of_parts, first, self.decode) if self.retry else [(o, FIRST) for o in first]
        )
        rows = []
        for key, text, sentence in zip(keys, texts, pieces, strict=True):
            mine = [next(climbed) for _ in sentence[::2]]
            output, rung = mine[0] if len(mine) == 1 else (join_outputs([o for o, _ in mine], sentence[1::2]), SPLIT)
            rows.append((key, text, *output, rung))
        columns = list(zip(*rows, strict=True)) or [()] * len(TRANSLATIONS)
        return pa.table(
            [pa.array(c, type=f.type) for c, f in zip(columns, TRANSLATIONS, strict=True)], schema=TRANSLATIONS
        )

    def token_counts(self, texts: Sequence[str]) -> list[int]:
        """Source tokens of each text, the language code and the end token included."""
        starts = range(0, len(texts), TEXTS_AT_ONCE)
        return [
            len(e)
            for start in starts
            for e in self.tokenizer(list(texts[start : start + TEXTS_AT_ONCE]), verbose=False).encodings
        ]

    def _tokens(self, texts: Sequence[str]) -> list[list[str]]:
        return [e.tokens for e in self.tokenizer(list(texts), verbose=False).encodings] if texts else []

    def _parts(self, text: str) -> list[str]:
        """The text, or its parts and what stands between them where it is too long for the model."""
        special = self.tokenizer.num_special_tokens_to_add()
        if len(text) < self.max_source_tokens - special:  # hardly a token has less than one character
            return [text]
        return split_long(
            text, self.max_source_tokens - special, lambda units: [n - special for n in self.token_counts(units)]
        )

    def decode(
        self, texts: Sequence[str], languages: Sequence[str], rung: Rung, source_language: str = ENGLISH
    ) -> list[Output]:
        """Decode sentences of `source_language` each into its language, by one rung of the ladder; in order."""
        tokens = self._tokens(texts)
        if source_language != ENGLISH:
            tokens = [[source_language, *sentence[1:]] for sentence in tokens]
        groups: dict[tuple[int, str], list[int]] = {}
        for i, sentence in enumerate(tokens):
            if len(sentence) <= self.max_source_tokens:
                groups.setdefault(self._group(len(sentence), languages[i]), []).append(i)
        outputs = [Output("", "too_long", 0.0, 0)] * len(tokens)
        for mapped in sorted({language for _, language in groups}):
            with self._translator_for(mapped) as translator:
                waiting: list[tuple[int, Any]] = []
                for (length, language), members in sorted(groups.items(), reverse=True):
                    if language == mapped:
                        results = translator.translate_batch(
                            [tokens[i] for i in members],
                            target_prefix=[[languages[i]] for i in members],
                            beam_size=rung.beam_size,
                            no_repeat_ngram_size=rung.no_repeat_ngram_size,
                            repetition_penalty=rung.repetition_penalty,
                            max_batch_size=self.batch_tokens,
                            batch_type="tokens",
                            use_vmap=bool(mapped),
                            max_input_length=0,
                            max_decoding_length=max_target_tokens(length),
                            return_scores=True,
                            return_end_token=True,
                            asynchronous=True,
                        )
                        waiting += zip(members, results, strict=True)
                done = [(i, result.result()) for i, result in waiting]
            read = self._read([(r.hypotheses[0], r.scores[0], languages[i]) for i, r in done])
            for (i, _), output in zip(done, read, strict=True):
                outputs[i] = output
        return outputs

    def _group(self, length: int, language: str) -> tuple[int, str]:
        """What is decoded in one call: sentences of a class of lengths and, with a map, of one language."""
        mapped = language if self.maps and language in self.maps.tokens else ""
        return -(-length // LENGTH_CLASS) * LENGTH_CLASS, mapped

    def _read(self, decoded: Sequence[tuple[list[str], float, str]]) -> list[Output]:
        """(hypothesis, score, language) -> outputs."""
        end, unknown = self.tokenizer.eos_token, self._ids[self.tokenizer.unk_token]
        ids = [[self._ids.get(t, unknown) for t in words if t not in (end, language)] for words, _, language in decoded]
        texts = self.tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=True)
        return [
            Output(
                text.strip(),
                "translated" if words and words[-1] == end else "unfinished",
                round(score, 4),
                mine.count(unknown),
            )
            for (words, score, _), mine, text in zip(decoded, ids, texts, strict=True)
        ]


@cache
def load_engine(config: TranslationConfig, threads: int | None = None) -> Engine:
    """Find, convert if needed, and describe the model of a mix; its weights are loaded when first used. Cached per process.

    `threads`: CPU threads for decoding, by default the cores that this process may use. Raises ModelError, and VocabularyError for maps that can't
    be used.
    """
    device = choose_device(config.device)
    compute_type = choose_compute_type(config.compute_type, device)
    folder = find_model(config.model, compute_type)
    engine = Engine(
        folder=folder,
        fingerprint=folder_fingerprint(folder),
        device=device,
        compute_type=compute_type,
        beam_size=config.beam_size,
        max_source_tokens=config.max_source_tokens,
        batch_tokens=config.batch_tokens or BATCH_TOKENS[device],
        block_sentences=config.block_sentences or BLOCK_SENTENCES[device],
        threads=threads or available_cores(),
        retry=config.retry,
        device_index=config.device_index if device == "cuda" else (0,),
    )
    if config.vocabulary_maps is None:
        return engine
    return replace(engine, maps=read_maps(config.vocabulary_maps, engine.tokenizer))


def main(arguments: list[str] | None = None) -> int:
    """Translate a file of one's own: `pipeline/own_text.py` says how."""
    from pipeline import own_text

    parser = argparse.ArgumentParser(
        prog="python -m pipeline.translate",
        description=own_text.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source", type=Path, metavar="IN", help=f"a file of English text: {', '.join(own_text.FORMATS)}"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="the output, in the same format")
    parser.add_argument("--to", nargs="+", required=True, metavar="LANGUAGE", help="codes of languages.csv, or all")
    parser.add_argument("--model", required=True, help="a hub id, a Hugging Face folder, or a converted folder")
    parser.add_argument("--column", help="the column to translate (tables)")
    parser.add_argument(
        "--memory", type=Path, default=cache_folder() / "memory", help="translation memory (default: %(default)s)"
    )
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--compute-type", default="auto")
    parser.add_argument("--vocabulary-maps", type=Path, help="a file made by python -m pipeline.vocabulary")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        languages = own_text.target_languages(options.to)
        own_text.check_output(options.source, options.out, languages)
        found = own_text.read_texts(options.source, options.column)
        config = TranslationConfig(
            model=options.model,
            beam_size=options.beam_size,
            compute_type=options.compute_type,
            vocabulary_maps=options.vocabulary_maps,
        )
        engine = load_engine(config)
        engine.check_languages(languages)
        memory = Memory(options.memory, engine.key, {"model": options.model, **engine.settings})
        with tqdm(desc="translate", unit=" sentences", mininterval=1) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done)

            columns, failures = own_text.translate_texts(found.texts, languages, engine, memory, progress)
        found.write(options.out, columns)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for row, language, reason in failures[:20]:
        logger.warning("%s, row %d, %s: %s; left empty", options.source, row, language, reason)
    if len(failures) > 20:
        logger.warning("… and %d more", len(failures) - 20)
    logger.info(
        "%d texts in %d languages written to %s, %d left empty",
        len(found.texts),
        len(languages),
        options.out,
        len(failures),
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
