"""Generation gives one text a prompt, for every architecture."""

import torch

from model.generate import Decoding, generate
from model.inputs import Layout


def test_one_text_for_each_image_and_prompt(model, tokenizer):
    size = model.config.vision_config.image_size
    prompts = ["a dog", "what is it on the grass"]
    model.train()
    images, english, german = torch.randn(2, 3, size, size), ["eng_Latn"] * 2, ["deu_Latn"] * 2
    texts = generate(model, tokenizer, images, prompts, english, german, Decoding(max_new_tokens=4))
    assert len(texts) == 2 and all(isinstance(text, str) for text in texts)
    assert not any(prompt in text for prompt, text in zip(prompts, texts, strict=True))
    assert model.training
    assert Layout.of(model.config, tokenizer).query_tokens == 8
