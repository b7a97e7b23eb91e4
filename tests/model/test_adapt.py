"""LoRA goes on every linear layer of the language model and nowhere else."""

import re
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from transformers import MT5Config

from model import assemble
from model.adapt import TARGETS, add_lora, load_lora

LINEAR_LAYERS = {"mt5": 2 * 7 + 2 * 11, "llama": 3 * 7, "m2m_100": 1 * 6 + 2 * 10}


def test_every_linear_layer_of_the_language_model_is_adapted_and_no_other(model):
    kind = model.config.text_config.model_type
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and name.startswith("language_model.") and not name.endswith("lm_head")
    }
    wrapped = add_lora(model)
    assert set(wrapped.base_model.targeted_module_names) == linear
    assert len(linear) == LINEAR_LAYERS[kind]


@pytest.mark.parametrize("kind", sorted(TARGETS))
def test_patterns_are_anchored_and_leave_vision_and_qformer_alone(kind):
    pattern = TARGETS[kind].pattern
    assert pattern.startswith("^language_model") and pattern.endswith("$")
    for name in (
        "vision_model.encoder.layers.0.mlp.fc1",
        "qformer.encoder.layer.0.attention.attention.query",
        "language_model.lm_head",
    ):
        assert not re.fullmatch(pattern, name)


def test_mt0_xl_gets_the_published_number_of_lora_parameters():
    """17.7M with rank 8 (facts of mBLIP), from mT0-XL's shape: 24 + 24 layers, width 2048, 32 heads of 64, feed-forward 5120."""
    attention, feed_forward = 4 * 8 * (2048 + 2048), 3 * 8 * (2048 + 5120)
    assert round(24 * (attention + feed_forward + 2 * attention + feed_forward) / 1e6, 1) == 17.7


def test_an_unknown_architecture_and_a_wrong_count_are_refused(tokenizer):
    model = assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0)
    model.config.text_config.num_layers = 3  # a layer that is not there
    with pytest.raises(ValueError, match="36 modules"):
        add_lora(model)
    model.config.text_config.model_type = "abacus"
    with pytest.raises(ValueError, match=r"abacus.*model/adapt\.py"):
        add_lora(model)


KINDS = [{}, {"use_dora": True}, {"use_rslora": True, "rank": 16, "alpha": 32}]


def moved_away_from_zero(model):
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter)


@pytest.mark.parametrize("kind", KINDS, ids=["lora", "dora", "rslora"])
def test_plain_peft_loads_the_adapter_and_so_do_we(tokenizer, tmp_path, kind):
    model = assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0)
    wrapped = add_lora(model, **kind)
    moved_away_from_zero(model)
    wrapped.save_pretrained(tmp_path)
    for load in (lambda base, folder: PeftModel.from_pretrained(base, folder), load_lora):
        fresh = load(assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0), tmp_path)
        assert any("lora_A" in name for name, _ in fresh.named_parameters())
        for (name, saved), (_, loaded) in zip(wrapped.named_parameters(), fresh.named_parameters(), strict=True):
            assert torch.equal(saved, loaded), name
    layer = wrapped.base_model.model.language_model.encoder.block[0].layer[0].SelfAttention.q
    assert layer.scaling["default"] == (32 / 4 if kind.get("use_rslora") else 2.0)
    assert ("default" in layer.lora_magnitude_vector) == bool(kind.get("use_dora"))


def test_the_adapter_of_another_model_is_refused(tokenizer, tmp_path):
    """Another architecture, other widths, fewer layers; PEFT alone lets the last one pass."""
    wrapped = add_lora(assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0))
    wrapped.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"another kind of language model than llama.*trained on"):
        load_lora(assemble.build(assemble.PRESETS["tiny-decoder"], tokenizer, seed=0), tmp_path)
    for change in ({"d_ff": 320}, {"num_layers": 1, "num_decoder_layers": 3}, {"num_decoder_layers": 3}):
        other = replace(
            assemble.PRESETS["tiny"],
            text_config=lambda rows, tokenizer, change=change: MT5Config(
                **{**assemble.tiny_mt5(rows, tokenizer).to_dict(), **change}
            ),
        )
        with pytest.raises(ValueError, match=r"another model: .*trained on|adapted in a mt5"):
            load_lora(assemble.build(other, tokenizer, seed=0), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no adapter_config\.json"):
        load_lora(assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0), tmp_path / "nothing")
