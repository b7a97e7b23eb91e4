"""Small eyes learn from drawings what a picture shows, so that a frozen language model can read it."""

import pytest
import torch
from PIL import Image
from torch.nn import functional

from model import assemble
from model.images import normalise, to_pixels
from model.loss import image_embeddings
from training.drawings import Drawings
from training.eyes import learn_names, learn_to_be_read

COLOURS = ["red", "green", "blue", "yellow", "black", "pink"]


@pytest.fixture(scope="module")
def colours() -> Drawings:
    pixels = torch.stack([to_pixels(Image.new("RGB", (64, 64), colour), 64) for colour in COLOURS])
    questions = [[("what is the color?", colour), ("is it a color?", "yes")] for colour in COLOURS]
    return Drawings(pixels, COLOURS, questions)


@pytest.fixture(autouse=True)
def plain_pictures(monkeypatch):
    monkeypatch.setattr("training.eyes.vary", lambda pixels, generator: pixels)


@pytest.fixture
def model_and_tokenizer():
    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    return assemble.build(assemble.PRESETS["tiny-nllb"], tokenizer, seed=0), tokenizer


def frozen_and_not(model) -> dict[str, torch.Tensor]:
    return {
        "vision": model.vision_model.embeddings.patch_embedding.weight.detach().clone(),
        "qformer": model.qformer.encoder.layer[0].attention.attention.query.weight.detach().clone(),
        "projection": model.language_projection.weight.detach().clone(),
        "language model": model.language_model.get_input_embeddings().weight.detach().clone(),
    }


def test_names_are_learnt_and_stand_where_the_words_are(model_and_tokenizer, colours):
    model, tokenizer = model_and_tokenizer
    before = frozen_and_not(model)
    learn_names(model, tokenizer, colours, colours, steps=80, batch_size=12)
    changed = {part for part, weight in frozen_and_not(model).items() if not torch.equal(weight, before[part])}
    assert changed == {"vision", "qformer", "projection"}
    with torch.no_grad():
        states = model.vision_model(pixel_values=normalise(colours.pixels)).last_hidden_state
        first = image_embeddings(model, states)[:, 0]
        ids = [tokenizer(f" {colour}", add_special_tokens=False)["input_ids"][0] for colour in COLOURS]
        words = model.language_model.get_input_embeddings().weight[ids]
    middle = words.mean(0)
    likeness = functional.normalize(first - middle, dim=1) @ functional.normalize(words - middle, dim=1).T
    assert likeness.argmax(1).tolist() == list(range(len(COLOURS)))


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_the_frozen_language_model_learns_to_read_them(model_and_tokenizer, colours, precision):
    model, tokenizer = model_and_tokenizer
    before = frozen_and_not(model)
    first = learn_to_be_read(model, tokenizer, colours, colours, steps=1, batch_size=12, precision=precision)
    last = learn_to_be_read(model, tokenizer, colours, colours, steps=30, batch_size=12, precision=precision)
    assert last < first - 1
    changed = {part for part, weight in frozen_and_not(model).items() if not torch.equal(weight, before[part])}
    assert changed == {"qformer", "projection"}
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_a_name_with_more_words_than_query_tokens_is_cut(model_and_tokenizer, colours):
    model, tokenizer = model_and_tokenizer
    long = Drawings(colours.pixels, [" ".join([name] * 20) for name in COLOURS], colours.questions)
    assert learn_names(model, tokenizer, long, long, steps=2, batch_size=12) > 0
