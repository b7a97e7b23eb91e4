"""Small eyes learn from drawings what a picture shows, and the base that they are in has a real language model."""

import pytest
import torch
from PIL import Image

from model import assemble
from model.images import normalise, to_pixels
from training.eyes import Pictures, _see, emoji, package_folder, shapes, spread_as_words, train_eyes, vary


def test_a_varied_picture_stays_on_white_and_keeps_its_ink():
    square = torch.full((4, 3, 64, 64), 255, dtype=torch.uint8)
    square[:, :, 24:40, 24:40] = 0
    varied = vary(square, torch.Generator().manual_seed(0))
    assert varied.dtype == torch.uint8 and not torch.equal(varied, square)
    assert bool((varied[:, :, 0, 0] == 255).all())
    ink = (255 - varied.float()).sum((1, 2, 3)) / (255 - square.float()).sum((1, 2, 3))
    assert bool(((ink > 0.5) & (ink < 1.5)).all())


def test_contrast_teaches_which_name_is_a_pictures(monkeypatch):
    colours = ["red", "green", "blue", "yellow", "black", "pink"]
    pixels = torch.stack([to_pixels(Image.new("RGB", (64, 64), colour), 64) for colour in colours])
    for name in ("emoji", "shapes"):
        monkeypatch.setattr(f"training.eyes.{name}", lambda size: Pictures(pixels, colours))
    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    model = assemble.build(assemble.PRESETS["tiny-nllb"], tokenizer, seed=0)
    vision = model.vision_model.embeddings.patch_embedding.weight.detach().clone()
    loss = train_eyes(model, tokenizer, steps=80, batch_size=12)
    assert loss < 2.0  # twelve pictures of six kinds: ln 12 = 2.5 without looking
    assert not torch.equal(vision, model.vision_model.embeddings.patch_embedding.weight)


def test_images_are_spread_as_words_are_around_their_mean():
    tokenizer = assemble.load_tokenizer(assemble.in_repository(assemble.DEMO_MODEL))
    model = assemble.build(assemble.PRESETS["tiny-nllb"], tokenizer, seed=0)
    pixels = torch.randint(0, 256, (24, 3, 64, 64), dtype=torch.uint8)
    pixels[::2] //= 4
    words = torch.randn(30, model.config.text_config.hidden_size) * 0.7
    with torch.no_grad():
        before = _see(model.eval(), normalise(pixels))
        spread_as_words(model, pixels, words)
        after = _see(model, normalise(pixels))
    torch.testing.assert_close(after.mean(0), before.mean(0), rtol=1e-3, atol=1e-4)
    assert float(after.std(0).mean()) == pytest.approx(float(words.std(0).mean()), rel=1e-3)


def test_a_missing_package_is_named_with_how_to_get_it():
    with pytest.raises(FileNotFoundError, match="no_such_package is not installed: make it so"):
        package_folder("no_such_package", "make it so")


@pytest.mark.slow  # `make test-slow` installs the drawings
def test_the_drawings_have_names_that_say_what_they_show():
    drawn, figures = emoji(16), shapes(16)
    assert len(drawn.names) == len(set(drawn.names)) == len(drawn.pixels) > 1000
    assert {"strawberry", "dog face", "rocket"} <= set(drawn.names)
    assert len(set(figures.names)) == 24
    assert float(drawn.pixels[drawn.names.index("strawberry")].float().mean((1, 2))[0]) > float(
        drawn.pixels[drawn.names.index("strawberry")].float().mean((1, 2))[2]
    )
