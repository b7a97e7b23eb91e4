"""The real models, assembled on the meta device from their published configurations, have the published numbers of parameters and bytes."""

from collections import Counter
from dataclasses import asdict

import pytest

from model import assemble, memory
from model.adapt import add_lora
from model.freeze import part_of, set_trainable
from model.parts import preset_skeleton
from model.recipes import RECIPES

MILLION = 1e6
TRAINED = ("qformer", "query_tokens", "projection", "adapter")


def count(model) -> Counter:
    counts: Counter = Counter()
    for name, parameter in model.named_parameters():
        assert parameter.is_meta, name
        counts[part_of(name)] += parameter.numel()
    return counts


@pytest.mark.parametrize(
    ("name", "language_model", "is_tied"), [("mt0-xl", 3.74e9, False), ("bloomz-7b1", 7.07e9, True)]
)
def test_each_part_has_the_published_number_of_parameters(name, language_model, is_tied):
    """985M, 105M, 3.7B and 7.07B: the papers of BLIP-2, mT5 (its output matrix is one of its own) and BLOOM."""
    model = preset_skeleton(name)
    counts = count(model)
    assert counts["vision"] // MILLION == 985
    assert counts["qformer"] // MILLION == 105
    assert counts["query_tokens"] == 32 * 768
    assert counts["language_model"] == pytest.approx(language_model, rel=2e-3)
    trained_in_blip2 = counts["qformer"] + counts["query_tokens"] + counts["projection"]
    assert round(trained_in_blip2 / MILLION) in (
        107,
        108,
    )  # mBLIP's paper: 107M; BLOOMZ's projection is twice as wide as mT0's
    assert assemble.output_matrix_is_tied(model) == is_tied
    vision = model.config.vision_config
    assert (vision.image_size // vision.patch_size) ** 2 + 1 == 257


@pytest.mark.parametrize(
    ("name", "modules", "millions"), [("mt0-xl", 24 * 7 + 24 * 11, 17.7), ("bloomz-7b1", 30 * 4, 15.7)]
)
def test_lora_has_the_published_number_of_parameters_and_the_trained_share_is_mblips(name, modules, millions):
    model = preset_skeleton(name)
    lora = RECIPES[name].lora
    assert (lora.rank, lora.alpha, lora.dropout) == (8, 16, 0.05)
    wrapped = add_lora(model, **asdict(lora))
    assert len(wrapped.base_model.targeted_module_names) == modules
    set_trainable(model, TRAINED)
    counts = count(model)
    assert round(counts["adapter"] / MILLION, 1) == millions
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == sum(counts[part] for part in TRAINED)
    assert 0.01 < trained / sum(counts.values()) < 0.03


def test_recipes_have_mblips_learning_rates_and_lengths():
    for recipe in RECIPES.values():
        if recipe.eyes == "Salesforce/blip2-flan-t5-xl":
            warm_up, instruct = recipe.stages["warm-up"], recipe.stages["instruct"]
            assert warm_up.rates == {"projection": 5e-3}
            assert (warm_up.steps, warm_up.batch_size) == (8000, 128)
            assert instruct.rates == {"qformer": 1e-5, "query_tokens": 1e-5, "projection": 1e-5, "adapter": 2e-4}
            assert (instruct.epochs, instruct.batch_size, instruct.warmup_steps) == (2, 128, 1000)


def test_weight_bytes_are_the_published_ones():
    """mBLIP's language models took 8.3 and 10.2 GB in "8 bits", more than mT0-XL's 7.5 in bfloat16; without its detours 4.8 and 8.1."""
    gigabytes = {
        (name, mode): (round(counted.language_model / 1e9, 1), counted.total / 1e9)
        for name, mode, counted in memory.table()
    }
    assert gigabytes["mt0-xl", memory.MBLIP][0] == 8.3
    assert gigabytes["bloomz-7b1", memory.MBLIP][0] == 10.2
    assert gigabytes["mt0-xl", "none"][0] == 7.5
    assert gigabytes["mt0-xl", "8bit"][0] == 4.8
    assert gigabytes["bloomz-7b1", "8bit"][0] == 8.1
    assert gigabytes["bloomz-7b1", "nf4"][0] == 5.2
    assert gigabytes["mt0-xl", "nf4"][1] < 6.0


def test_the_eyes_have_the_names_of_the_published_checkpoint():
    """Names in `model.safetensors.index.json` of BLIP-2 checkpoints on the hub; another version of transformers must not rename them unseen."""
    names = {name for name, _ in preset_skeleton("mt0-xl").named_parameters() if not name.startswith("language_")}
    published = {
        "query_tokens",
        "vision_model.embeddings.class_embedding",
        "vision_model.embeddings.position_embedding",
        "vision_model.embeddings.patch_embedding.weight",
        "vision_model.encoder.layers.38.self_attn.qkv.weight",
        "vision_model.encoder.layers.38.self_attn.projection.bias",
        "vision_model.encoder.layers.0.layer_norm1.weight",
        "vision_model.encoder.layers.0.mlp.fc1.bias",
        "vision_model.post_layernorm.weight",
        "qformer.layernorm.weight",
        "qformer.encoder.layer.0.attention.attention.query.weight",
        "qformer.encoder.layer.0.attention.output.LayerNorm.weight",
        "qformer.encoder.layer.10.crossattention.attention.value.weight",
        "qformer.encoder.layer.6.crossattention.output.dense.bias",
        "qformer.encoder.layer.11.intermediate_query.dense.bias",
        "qformer.encoder.layer.5.output_query.dense.weight",
        "qformer.encoder.layer.9.output_query.LayerNorm.bias",
    }
    assert published <= names
    assert not any("layer.39" in name or ("crossattention" in name and ".1.cross" in name) for name in names)
    assert len(names) == 1 + 2 + 2 + 39 * 12 + 2 + 2 + 12 * 16 + 6 * 10
