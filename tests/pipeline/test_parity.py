"""CTranslate2 in float32 gives what transformers' `generate` gives, token for token, on the embedded model: ten scripts, greedy and beam 4.

The float16 checkpoint is loaded in float32 by both sides. With a beam, transformers needs `early_stopping=True` to stop where CTranslate2 does,
when it has as many finished hypotheses as beams. (Random weights would prove nothing: their distributions are flat, and rounding decides.)
"""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from pipeline.languages import ENGLISH
from pipeline.mix import TranslationConfig
from pipeline.translate import load_engine

LANGUAGES = [
    *("deu_Latn", "rus_Cyrl", "arb_Arab", "hin_Deva", "zho_Hans", "jpn_Jpan"),
    *("kor_Hang", "tha_Thai", "ell_Grek", "kat_Geor", "tam_Taml", "heb_Hebr"),
]
NAMES = [
    "dog face",
    "red apple",
    "rocket",
    "fire engine",
    "butterfly",
    "four leaf clover",
    "globe showing Europe-Africa",
    "hot dog",
]
LENGTH = 48


@pytest.fixture(scope="module")
def folder(demo_model):
    return demo_model.parent / "hf"


@pytest.fixture(scope="module")
def reference(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(str(folder), dtype=torch.float32).eval()


@pytest.mark.parametrize("beam_size", [1, 4])
def test_tokens_are_those_of_transformers(folder, reference, beam_size, tmp_path, monkeypatch):
    monkeypatch.setenv("POLYALIGN_CACHE", str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(str(folder), src_lang=ENGLISH)
    config = TranslationConfig(model=str(folder), compute_type="float32", beam_size=beam_size)
    engine = load_engine.__wrapped__(config, 1)
    tokens = [e.tokens for e in engine.tokenizer(NAMES).encodings]
    different = []
    for language in LANGUAGES:
        ours = engine.translator.translate_batch(
            tokens,
            target_prefix=[[language]] * len(NAMES),
            beam_size=beam_size,
            max_decoding_length=LENGTH,
            return_end_token=True,
        )
        inputs = tokenizer(NAMES, return_tensors="pt", padding=True)
        first = tokenizer.convert_tokens_to_ids(language)
        with torch.inference_mode():
            options = {"num_beams": beam_size, "early_stopping": beam_size > 1, "do_sample": False}
            theirs = reference.generate(**inputs, forced_bos_token_id=first, max_new_tokens=LENGTH, **options)
        for name, mine, other in zip(NAMES, ours, theirs, strict=True):
            expected = [t for t in tokenizer.convert_ids_to_tokens(other[1:]) if t != tokenizer.pad_token]
            if mine.hypotheses[0] != expected:
                different.append((language, name, mine.hypotheses[0], expected))
    assert not different
