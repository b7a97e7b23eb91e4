"""A model is sound after building, saving and loading, or the error says what to do."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import assemble


def test_query_tokens_are_drawn_and_not_left_at_zero(model):
    assert 0.01 < float(model.query_tokens.detach().std()) < 0.03


def test_the_placeholder_is_an_id_that_no_text_becomes(model, tokenizer):
    placeholder = model.config.image_token_index
    assert placeholder < model.language_model.get_input_embeddings().weight.shape[0]
    for text in ("a dog", "<mask>", "<image>", "</s><mask>"):
        assert placeholder not in tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def test_saved_and_loaded_it_is_the_same_with_the_output_matrix_as_tied_as_before(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = assemble.load(tmp_path, tokenizer)
    assert assemble.output_matrix_is_tied(loaded) == assemble.output_matrix_is_tied(model)
    assert assemble.output_matrix_is_tied(loaded) == (model.config.text_config.model_type == "m2m_100")
    for (name, before), (other_name, after) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other_name
        assert torch.equal(before, after), name


def test_an_untied_matrix_that_something_ties_again_is_refused(tokenizer):
    model = assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0)
    model.language_model.lm_head.weight = model.language_model.shared.weight
    with pytest.raises(ValueError, match="tied"):
        assemble.check(model, tokenizer)


def test_a_folder_that_is_no_model_is_named_with_the_remedy(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json.*tiny_base"):
        assemble.load(tmp_path, tokenizer)
    with pytest.raises(FileNotFoundError, match="--tokenizer"):
        assemble.load_tokenizer(tmp_path / "nothing")


def test_missing_weights_are_refused(tokenizer, tmp_path):
    assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["language_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"language_projection\.weight"):
        assemble.load(tmp_path, tokenizer)


def test_a_placeholder_that_is_an_ordinary_token_is_refused(tokenizer, tmp_path):
    assemble.build(assemble.PRESETS["tiny"], tokenizer, seed=0).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["image_token_index"] = tokenizer("dog", add_special_tokens=False)["input_ids"][0]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="ordinary token"):
        assemble.load(tmp_path, tokenizer)


def test_cast_leaves_the_frequencies_of_rotary_embeddings_in_float32(tokenizer):
    model = assemble.build(assemble.PRESETS["tiny-decoder"], tokenizer, seed=0)
    before = model.language_model.model.rotary_emb.inv_freq.clone()
    assemble.cast(model, torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model.language_model.model.rotary_emb.inv_freq, before)
    assert before.dtype is torch.float32 and not torch.equal(before.bfloat16().float(), before)
