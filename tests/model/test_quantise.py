"""8 bits and NF4 for real, on the CPU: what is quantised, that it trains and generates like the model it was made from, and what is refused."""

import sys

import pytest
import torch

from model import assemble, memory, parts
from model.adapt import add_lora
from model.freeze import part_of, set_trainable
from model.loss import batch_losses, encode_images
from model.quantise import check_available, linear_layers, quantise

TRAINED = ("qformer", "query_tokens", "projection", "adapter")


def as_bytes(tensor):
    """Of a packed NF4 weight, whose type is a mere container: some of its patterns are NaN."""
    return tensor.detach().view(torch.uint8)


def similarity(one, other):
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def losses(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return batch_losses(model, encode_images(model, batch["pixel_values"]), batch["image_of_text"], batch["text"])[
            0
        ]


@pytest.mark.parametrize("mode", ["8bit", "nf4"])
def test_every_linear_layer_is_quantised_and_no_embedding_is_upcast(model, mode):
    model.to(torch.bfloat16)
    names = set(linear_layers(model))
    others = {name: p.detach().clone() for name, p in model.named_parameters() if name.rpartition(".")[0] not in names}
    quantise(model, mode)
    kinds = {name: type(module).__name__ for name, module in model.named_modules() if name in names}
    assert set(kinds.values()) == {"Linear8bitLt" if mode == "8bit" else "Linear4bit"}
    add_lora(model)  # in which PEFT's own preparation would turn the embeddings into float32
    after = dict(model.named_parameters())
    for name, before in others.items():
        assert after[name].dtype == torch.bfloat16 and torch.equal(after[name], before), name
    if model.config.text_config.model_type == "mt5":
        assert any(name.endswith(".wo") for name in names)


@pytest.mark.parametrize("mode", ["8bit", "nf4"])
def test_a_quantised_model_has_nearly_the_same_loss_and_trains(model, batch, mode):
    model.to(torch.bfloat16)
    plain = losses(model, batch).mean().item()
    quantise(model, mode)
    quantised = losses(model, batch).mean().item()
    assert quantised != plain
    assert quantised == pytest.approx(plain, rel=0.02 if mode == "8bit" else 0.08)
    add_lora(model, dropout=0.0)
    set_trainable(model, TRAINED)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    values = []
    for _ in range(8):
        loss = losses(model, batch).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < values[0] - 0.1
    without_gradient = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0]
    assert not [n for n in without_gradient if part_of(n) == "adapter"]
    for name, parameter in model.named_parameters():
        if name in frozen:
            assert torch.equal(as_bytes(parameter), as_bytes(frozen[name])), name


@pytest.mark.parametrize("mode", ["8bit", "nf4"])
@torch.no_grad()
def test_inference_is_near_the_plain_models_and_the_same_every_time(model, batch, mode):
    """bitsandbytes repacks NF4 for inference on some CPUs, after which T5 would cast its activations to integers."""
    model.to(torch.bfloat16).eval()
    inputs = {"pixel_values": batch["pixel_values"][batch["image_of_text"]], **batch["text"]}
    plain = model(**inputs).logits.float()
    quantise(model, mode)
    first, second = (model.eval()(**inputs).logits.float() for _ in range(2))
    assert torch.equal(first, second)
    assert similarity(first, plain) > (0.999 if mode == "8bit" else 0.9)
    if mode == "nf4":  # but for the rounding of its weights it is the plain model
        from bitsandbytes.functional import dequantize_4bit

        for name, layer in linear_layers(model).items():
            rounded = torch.nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
            rounded.weight.data, rounded.bias = dequantize_4bit(layer.weight, layer.weight.quant_state), layer.bias
            model.set_submodule(name, rounded)
        assert similarity(model.eval()(**inputs).logits.float(), first) > 0.9999
    model.train()
    assert torch.isfinite(losses(model, batch)).all()


@pytest.mark.parametrize("mode", ["8bit", "nf4"])
def test_bitsandbytes_allocates_the_bytes_that_the_table_counts(tokenizer, mode):
    model = assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0).to(torch.bfloat16)
    quantise(model, mode)
    for layer in linear_layers(model).values():
        weight = layer.weight
        held = [weight]
        if mode == "8bit":
            held += [weight.SCB]
        else:
            state = weight.quant_state
            held += [state.absmax, state.code, state.state2.absmax, state.state2.code, state.offset]
        bytes_held = sum(tensor.numel() * tensor.element_size() for tensor in held)
        assert bytes_held == memory.layer_bytes(layer.in_features * layer.out_features, layer.out_features, mode)


def test_a_model_is_quantised_once_and_before_lora(tokenizer):
    model = assemble.build(assemble.PRESETS["tiny-decoder"], tokenizer, seed=0).to(torch.bfloat16)
    quantise(model, "nf4")
    with pytest.raises(ValueError, match="once, before LoRA"):
        quantise(model, "nf4")
    adapted = assemble.build(assemble.PRESETS["tiny-decoder"], tokenizer, seed=0)
    add_lora(adapted)
    with pytest.raises(ValueError, match="once, before LoRA"):
        quantise(adapted, "8bit")


def test_without_bitsandbytes_or_cuda_the_error_says_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="none, 8bit, nf4"):
        check_available("3bit", "cpu")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ImportError, match=r"pip install 'polyalign\[gpu\]'"):
        check_available("8bit", "cpu")
    check_available("none", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"no CUDA device.*--device cpu"):
        parts.from_parts(tmp_path, tmp_path, device="cuda")  # before anything is looked for
