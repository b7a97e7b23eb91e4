"""A stand-in of four emoji in a few languages, and a tiny untrained model."""

from pathlib import Path

import pytest
import torch

from evaluation import standin
from evaluation.ask import Answerer
from model import assemble
from pipeline.languages import find_language

LANGUAGES = ("en", "de", "zh", "he", "ar", "th")


@pytest.fixture(scope="session")
def names():
    of = standin.read_names()
    return {emoji: of[emoji] for emoji in sorted(of)[:4]}


@pytest.fixture(scope="session")
def written(names, tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    out = tmp_path_factory.mktemp("standin")
    return out, standin.write(out, names, [find_language(code).nllb for code in LANGUAGES])


def tiny(preset: str) -> Answerer:
    settings = assemble.PRESETS[preset]
    tokenizer = assemble.load_tokenizer(assemble.in_repository(str(settings.tokenizer)))
    model = assemble.build(settings, tokenizer, seed=0).eval()
    return Answerer(model, tokenizer, f"untrained {preset}", torch.device("cpu"))


@pytest.fixture(scope="session", params=["tiny", "tiny-decoder", "tiny-nllb"])
def any_model(request) -> Answerer:
    return tiny(request.param)


@pytest.fixture(scope="session")
def model() -> Answerer:
    return tiny("tiny")
