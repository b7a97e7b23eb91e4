"""Which names are the sample's own (seen often in training) and which are held out (never seen, in any language).

Both are CLDR emoji names. The choice hangs on a hash of the emoji alone, so collecting more data never moves a name across the line.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow as pa

HELD_OUT = 150
MIN_LANGUAGES = 80
EMOJI_FILE = Path(__file__).parents[1] / "sample" / "emoji.txt"


def sample_emoji(path: Path = EMOJI_FILE) -> list[str]:
    """The emoji of the embedded sample, in the file's order, without variation selectors."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [emoji for line in lines if not line.startswith("#") for emoji in line.strip() if emoji != "\ufe0f"]


def held_out_emoji(pairs: pa.Table) -> list[str]:
    """150 emoji named in at least 80 languages whose English name is not a name of the sample."""
    rows = [
        row for row in pairs.select(["english", "source", "key"]).to_pylist() if row["source"] == "cldr-annotations"
    ]
    languages = Counter(row["key"] for row in rows)
    english = {row["key"]: row["english"].lower() for row in rows}
    own = {english[emoji] for emoji in sample_emoji()}
    # Symbols of mathematics and typography are no subject of a photograph; emoji lie above U+231A.
    fit = [
        key
        for key in languages
        if ord(key[0]) >= 0x231A and languages[key] >= MIN_LANGUAGES and english[key] not in own
    ]
    return sorted(fit, key=lambda key: hashlib.sha256(key.encode()).hexdigest())[:HELD_OUT]


def training_pairs(pairs: pa.Table) -> pa.Table:
    """The pairs whose English is not a held-out name, whatever the source."""
    held_out = set(held_out_emoji(pairs))
    rows = pairs.to_pylist()
    banned = {row["english"].lower() for row in rows if row["source"] == "cldr-annotations" and row["key"] in held_out}
    return pairs.filter(pa.array([row["english"].lower().rstrip(".") not in banned for row in rows]))
