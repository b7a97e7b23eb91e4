"""The same model from any language into English, for texts that are translated back to check them.

An NLLB checkpoint translates between all its languages, so no second model is loaded. The memory has a folder of its own for this direction; its
folders of languages are those of the sources.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline import files
from pipeline.corpus import TRANSLATIONS
from pipeline.languages import ENGLISH
from pipeline.retry import FIRST, Rung
from pipeline.translate import Engine


@dataclass(frozen=True)
class IntoEnglish:
    """An engine turned round."""

    engine: Engine

    @property
    def settings(self) -> dict[str, Any]:
        return {**self.engine.settings, "source_language": "of the folder", "target_language": ENGLISH, "retry": []}

    @property
    def key(self) -> str:
        """A hash of `settings`, 16 hexadecimal digits."""
        return files.sha256_json(self.settings)[:16]

    def translate(self, keys: Sequence[str], texts: Sequence[str], language: str) -> pa.Table:
        """Translate sentences of `language` into English. Returns a table (schema TRANSLATIONS) in the order given. Nothing is tried again: an
        output with a fault is not the English answer anyway."""
        outputs = self.engine.decode(texts, [ENGLISH] * len(texts), Rung(FIRST, self.engine.beam_size), language)
        rows = [
            {"key": key, "source": text, **output._asdict(), "rung": FIRST}
            for key, text, output in zip(keys, texts, outputs, strict=True)
        ]
        return pa.Table.from_pylist(rows, schema=TRANSLATIONS)
