"""No text, however odd, makes the whole way from a pair to a verdict raise or gives a number that is none: scores, policy and the tool."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.corpus import CANDIDATES, SIGNALS
from pipeline.languages import ENGLISH, LANGUAGES
from pipeline.quality.__main__ import main
from pipeline.quality.accept import accept, read_policy
from pipeline.quality.characters import column
from pipeline.quality.score import sample_scores, score

from .conftest import candidate
from .test_signals import TEXT

CODES = sorted(x.nllb for x in LANGUAGES if x.nllb != ENGLISH)
LONG = 1_000_000


def encodable(text):
    return column([text])[0].as_py()  # Arrow's strings have no lone surrogates


def scored(identifier, contracts, fields, language):
    """Scores of one sample, a question and its answer, and its verdict; checked for range."""
    texts = [(role, encodable(s), encodable(t)) for role, (s, t) in zip(("question", "answer"), fields, strict=True)]
    row = candidate(language, texts, "vqa")
    scores = score(pa.Table.from_pylist([row], schema=CANDIDATES), identifier, contracts)
    for table in (scores, sample_scores(scores)):
        struct = table["scores"].combine_chunks()
        for name in SIGNALS:
            values = pc.struct_field(struct, name)
            assert values.null_count == 0 and np.isfinite(values.to_numpy(zero_copy_only=False)).all(), name
    (verdict,) = accept(scores, contracts, read_policy()).to_pylist()
    assert isinstance(verdict["reason"], str) and "nan" not in verdict["detail"]
    return verdict


@settings(deadline=None, max_examples=60)
@given(st.tuples(TEXT, TEXT), st.tuples(TEXT, TEXT), st.sampled_from(CODES))
@example(("\ud800", "\udfff\u202e"), ("\u2066", "\u2069"), CODES[0])
@example(('"A"', "“”"), ("\U0001f468\u200d\U0001f469", "\U0001f1e9\U0001f1ea"), CODES[-1])
def test_any_texts_get_scores_and_a_verdict(question, answer, language):
    from pipeline.quality.lid import load_identifier

    identifier = load_identifier(None)
    scored(identifier, identifier.resolve([language]), (question, answer), language)


@pytest.mark.parametrize("character", ["a", "я", "中", "١", '"', "<", "\u0301", "\u202e", "🙂", "\x00", " ", "\n"])
def test_a_megabyte_of_one_character_gets_scores_and_a_verdict(identifier, contracts, character):
    long = (character * LONG).encode("utf-8")[:LONG].decode("utf-8", "ignore")
    for fields in (((long, "Ein Hund."), ("A dog.", long)), ((long, long), (long, long))):
        scored(identifier, contracts, fields, CODES[0])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
@example([("\ud800", "\udfff\u202e"), ("x" * LONG, "\u2066" * 100)])
def test_the_tool_takes_any_texts(pairs):
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.jsonl", Path(folder) / "out.jsonl"
        rows = [{"source": s, "text": t, "language": CODES[i % len(CODES)]} for i, (s, t) in enumerate(pairs)]
        source.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        assert main([str(source), str(out), "--processes", "1"]) == 0
        found = [json.loads(line) for line in out.read_text(encoding="utf-8").split("\n") if line]
    assert [r["source"] for r in found] == [encodable(r["source"]) for r in rows]
    assert all(np.isfinite(r[name]) for r in found for name in SIGNALS)
    assert {r["verdict"] for r in found} <= {"accepted", "rejected"}
