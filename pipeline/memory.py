"""The translation memory: a sentence is translated once per (text, language, model, decoding settings), ever.

An entry's key is a hash of exactly these things, so entries of different models live side by side and nothing has to be invalidated. On disk the
memory is Parquet: one folder a model-and-settings (`engine`), one folder a language in it, one file a finished block, named by what it answers.
Writers need no lock: a file is renamed into place whole, and two writers of one block write the same file. A file that is damaged is noticed by
its page checksums, set aside as `.damaged`, and its sentences are translated again.
"""

import hashlib
import logging
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipeline import files
from pipeline.corpus import TRANSLATIONS

logger = logging.getLogger(__name__)


def normalise(text: str) -> str:
    """Unicode NFC: two ways to write one character are one sentence."""
    return unicodedata.normalize("NFC", text)


def sentence_key(engine: str, language: str, text: str) -> str:
    """Content address of a translation, 32 hexadecimal digits. `engine`: model fingerprint and decoding settings (`translate.py`)."""
    content = "\0".join((engine, language, normalise(text)))
    return hashlib.sha256(content.encode("utf-8")).hexdigest()[:32]


def block_name(keys: list[str]) -> str:
    """Name of the file that answers these keys, in this order."""
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


class Memory:
    """A folder of translations. Cheap to make; holds no open file."""

    def __init__(self, folder: Path, engine: str) -> None:
        self.folder = folder / engine
        self.engine = engine

    def path(self, language: str, name: str) -> Path:
        return self.folder / language / f"{name}.parquet"

    def has_block(self, language: str, keys: list[str]) -> bool:
        """True when the very block was finished before."""
        return self.path(language, block_name(keys)).exists()

    def add(self, language: str, translations: pa.Table) -> None:
        """Store a finished block (schema TRANSLATIONS)."""
        name = block_name(translations["key"].to_pylist())
        files.write_table(self.path(language, name), translations.cast(TRANSLATIONS))

    def lookup(self, language: str, keys: pa.Array | pa.ChunkedArray) -> pa.Table:
        """Entries for `keys` (schema TRANSLATIONS), sorted by key, each key once; keys without an entry are left out.

        Where several files answer a key, the file whose name sorts first wins: the answer does not depend on who wrote when.
        """
        wanted = pc.unique(keys)
        parts: list[pa.Table] = []
        for path in sorted((self.folder / language).glob("*.parquet")):
            try:
                part = files.read_table(path)
                if not part.schema.equals(TRANSLATIONS):
                    raise ValueError(f"{path} has another schema")
            except ValueError as error:
                logger.warning("translation memory: %s Set aside; its sentences are translated again.", error)
                path.rename(path.with_suffix(".damaged"))
                continue
            part = part.filter(pc.is_in(part["key"], value_set=wanted))
            if part.num_rows:
                parts.append(part)
        if not parts:
            return TRANSLATIONS.empty_table()
        found = pa.concat_tables(parts)
        first = pc.index_in(pc.unique(found["key"]), value_set=found["key"].combine_chunks())
        return found.take(first).sort_by("key")
