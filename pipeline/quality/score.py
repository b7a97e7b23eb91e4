"""Scores of translated fields: numbers only, one row a field, stored for every sample. `accept.py` decides on them.

Language identification sees a sample's translated texts together, since a short answer alone can't be identified; every field of the sample
carries the same numbers.
"""

import pyarrow as pa

from pipeline.corpus import SCORES, UNTRANSLATED_ROLES
from pipeline.languages import ENGLISH
from pipeline.quality.copy import source_copy
from pipeline.quality.length import length_ratio
from pipeline.quality.lid import Contract, Identifier
from pipeline.quality.repetition import repetition
from pipeline.quality.script import script_share

VERSION = 1


def score(candidates: pa.Table, identifier: Identifier, contracts: dict[str, Contract]) -> pa.Table:
    """Score candidates (schema CANDIDATES); returns schema SCORES, in the order of the candidates and their fields. English is not scored."""
    rows = []
    for language in dict.fromkeys(candidates["language"].to_pylist()):
        if language == ENGLISH:
            continue
        mine = [c for c in candidates.to_pylist() if c["language"] == language]
        translated = [[f for f in c["fields"] if f["role"] not in UNTRANSLATED_ROLES] for c in mine]
        joined = ["\n".join(f["text"] for f in fields) for fields in translated]
        judgements = identifier.judge(joined, contracts[language])
        for candidate, fields, text, judgement in zip(mine, translated, joined, judgements, strict=True):
            for number, field in enumerate(fields):
                rows.append(
                    {
                        "id": candidate["id"],
                        "field": number,
                        "role": field["role"],
                        "language": language,
                        "task": candidate["task"],
                        "status": candidate["status"],
                        "source_words": len(field["source"].split()),
                        "characters": len(field["text"].strip()),
                        "bytes_judged": len(text.encode("utf-8", "replace")),
                        "scores": {
                            "source_copy": source_copy(field["source"], field["text"]),
                            "script_share": script_share(field["text"], language),
                            "length_ratio": length_ratio(field["source"], field["text"]),
                            "repetition": repetition(field["text"]),
                            "log_probability": candidate["log_probability"],
                            "unknown_tokens": candidate["unknown_tokens"],
                            "language_probability": judgement.language_probability,
                            "group_probability": judgement.group_probability,
                            "english_probability": judgement.english_probability,
                            "language_label": judgement.label,
                        },
                    }
                )
    return pa.Table.from_pylist(rows, schema=SCORES)
