"""Write the human names of the sample's emoji, English included: `demo/sample/emoji_names.json`, one emoji a line.

They are CLDR's text-to-speech names (Unicode-3.0) and serve as references: {emoji: {NLLB code: name}}. A language without CLDR names
is left out, not filled.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from demo.translation_model.split import sample_emoji


def write_names(pairs: Path, out: Path) -> None:
    own = set(sample_emoji())
    names: dict[str, dict[str, str]] = defaultdict(dict)
    for row in pq.read_table(pairs, filters=[("source", "=", "cldr-annotations")]).to_pylist():
        if row["key"] in own:
            names[row["key"]]["eng_Latn"] = row["english"]
            names[row["key"]][row["language"]] = row["text"]
    lines = [
        f"{json.dumps(emoji, ensure_ascii=False)}:{json.dumps(names[emoji], ensure_ascii=False, sort_keys=True, separators=(',', ':'))}"
        for emoji in sorted(names)
    ]
    out.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="what collect.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    write_names(arguments.pairs, arguments.out)


if __name__ == "__main__":
    main()
