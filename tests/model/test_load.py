"""What training from parts leaves is a model again, with LoRA or without, in 16 or 4 bits."""

import json
from pathlib import Path

import pytest
import torch

from model import parts
from model.adapt import add_lora
from model.freeze import set_trainable
from model.load import load_model
from training.realign import save_adapter

CPU = torch.device("cpu")


@pytest.fixture(params=["mt5", "bloom"])
def run(request, eyes, language_models, tmp_path) -> Path:
    """A finished run from parts, whose trained weights are not those that it began with."""
    return finished(
        eyes, language_models[request.param], tmp_path, ("qformer", "query_tokens", "projection", "adapter")
    )


def finished(eyes: Path, language_model: Path, folder: Path, trained: tuple[str, ...]) -> Path:
    chosen = {"eyes": str(eyes), "language_model": str(language_model), "quantisation": "none"}
    model, _ = parts.from_parts(**chosen, dtype=torch.float32)
    wrapped = add_lora(model) if "adapter" in trained else None
    set_trainable(model, trained)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.joinpath("adapter").mkdir()
    save_adapter(wrapped, model, folder / "adapter")
    (folder / "result.json").write_text(json.dumps({"parts": chosen, "config": {}}))
    torch.save(logits(model), folder / "expected.pt")
    return folder


@torch.no_grad()
def logits(model) -> torch.Tensor:
    ids = torch.tensor([[model.config.image_token_index] * model.config.num_query_tokens + [10, 11, 12]])
    pixels = torch.linspace(-1, 1, 3 * 28 * 28).reshape(1, 3, 28, 28)
    more = {} if model.config.use_decoder_only_language_model else {"decoder_input_ids": torch.tensor([[1, 20, 21]])}
    return model.eval()(pixel_values=pixels, input_ids=ids, **more).logits.float()


def similarity(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def test_a_run_from_parts_is_loaded_merged_and_unmerged(run):
    expected = torch.load(run / "expected.pt", weights_only=True)
    merged, beside = load_model(run, CPU), load_model(run, CPU, merge_adapter=False)
    assert merged.adapter is None and beside.adapter is not None
    assert not any("lora_" in name for name, _ in merged.model.named_parameters())
    assert similarity(logits(beside.model), expected) > 0.999  # they are loaded in bfloat16
    assert similarity(logits(merged.model), expected) > 0.999


def test_a_run_from_parts_is_loaded_in_4_bits_with_lora_beside(run):
    expected = torch.load(run / "expected.pt", weights_only=True)
    loaded = load_model(run, CPU, quantisation="nf4")
    assert loaded.adapter is not None
    assert any(type(module).__name__ == "Linear4bit" for module in loaded.model.modules())
    assert similarity(logits(loaded.model), expected) > 0.8


def test_a_warm_up_has_no_lora_and_loads(eyes, language_models, tmp_path):
    run = finished(eyes, language_models["mt5"], tmp_path, ("projection",))
    loaded = load_model(run, CPU)
    assert loaded.adapter is None
    assert similarity(logits(loaded.model), torch.load(run / "expected.pt", weights_only=True)) > 0.999
