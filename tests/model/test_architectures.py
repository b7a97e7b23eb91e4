"""Families of language models behind the eyes: every linear layer adapted, our loss and gradient those of transformers' own forward."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, Blip2ForConditionalGeneration

from model import parts
from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.inputs import Layout, stack, tokenize
from model.loss import batch_losses, check_against_plain, encode_images

ROWS = 192
T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 2,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
}
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
HEADS = {"head_dim": 16}
ARCHITECTURES = {
    "t5": ("t5", {**T5, "tie_word_embeddings": True}),
    "flan-t5": ("t5", {**T5, "tie_word_embeddings": False}),
    "mt5": ("mt5", T5),
    "umt5": ("umt5", T5),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2}),
    "llama": ("llama", LLAMA),
    "smollm": ("llama", {**LLAMA, "tie_word_embeddings": True}),
    "mistral": ("mistral", LLAMA),
    "qwen2": ("qwen2", LLAMA),
    "qwen3": ("qwen3", {**LLAMA, **HEADS}),
    "gemma": ("gemma", {**LLAMA, **HEADS}),
    "gemma2": ("gemma2", {**LLAMA, **HEADS, "query_pre_attn_scalar": 16, "final_logit_softcapping": 0.5}),
    "gemma3": ("gemma3_text", {**LLAMA, **HEADS, "query_pre_attn_scalar": 16}),
    "smollm3": ("smollm3", LLAMA),
}


@pytest.fixture(params=sorted(ARCHITECTURES))
def assembled(request, eyes, tokenizer, tmp_path):
    """(model, keyword arguments of `check_against_plain`) for one language model of each family, in float32."""
    kind, sizes = ARCHITECTURES[request.param]
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=ROWS,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=0,
        **sizes,
    )
    if config.is_encoder_decoder:
        config.decoder_start_token_id = tokenizer.pad_token_id
    (AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM).from_config(config).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    model, loaded_tokenizer = parts.from_parts(eyes, tmp_path, dtype=torch.float32)
    layout = Layout.of(model.config, loaded_tokenizer)
    english = ["eng_Latn"] * 3
    texts = tokenize(
        loaded_tokenizer,
        layout,
        ["what is it", "cat", "a dog on"],
        ["a dog", "no", "ein Hund"],
        english,
        english,
        32,
        32,
    )
    batch = {
        "pixel_values": torch.randn(2, 3, 28, 28),
        "image_of_text": torch.tensor([0, 1, 0]),
        "text": stack(layout, texts),
    }
    return model, batch


def test_loss_and_gradient_are_transformers_own_and_every_linear_layer_is_adapted(assembled):
    model, batch = assembled
    linear = {
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and path.startswith("language_model.") and not path.endswith("lm_head")
    }
    wrapped = add_lora(model, dropout=0.0)
    assert set(wrapped.base_model.targeted_module_names) == linear
    for path, parameter in model.named_parameters():
        if "lora_B" in path:
            torch.nn.init.normal_(parameter, std=0.05)
    set_trainable(model, ("qformer", "query_tokens", "projection", "adapter"))
    model.eval()
    pixel_values, image_of_text, text = batch["pixel_values"], batch["image_of_text"], batch["text"]
    plain = model(pixel_values=pixel_values[image_of_text], **text).loss
    plain.backward()
    expected = {path: p.grad.clone() for _, path, p in trainable_parameters(model)}
    assert all(gradient.abs().sum() > 0 for path, gradient in expected.items() if "lora_" in path)
    model.zero_grad()
    losses, _ = batch_losses(model, encode_images(model, pixel_values), image_of_text, text, chunk=2)
    losses.mean().backward()
    torch.testing.assert_close(losses.mean(), plain, rtol=1e-5, atol=1e-5)
    for _, path, parameter in trainable_parameters(model):
        torch.testing.assert_close(parameter.grad, expected[path], rtol=1e-3, atol=1e-6, msg=path)
    assert check_against_plain(model, **batch) < 1e-4


def test_what_is_saved_and_loaded_has_the_same_loss(assembled, tmp_path):
    """Tied or not, scaled or not: each family's configuration survives."""
    model, batch = assembled
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    loaded = Blip2ForConditionalGeneration.from_pretrained(folder)
    states = encode_images(model, batch["pixel_values"])
    with torch.no_grad():
        before = batch_losses(model.eval(), states, batch["image_of_text"], batch["text"])[0]
        after = batch_losses(loaded.eval(), states, batch["image_of_text"], batch["text"])[0]
    torch.testing.assert_close(after, before)
