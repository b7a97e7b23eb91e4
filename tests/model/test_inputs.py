"""Every sample has one placeholder for each query token, whatever its text says."""

import pytest
import torch

from model.inputs import IGNORED, Layout, check_placeholders, stack, stack_prompts, tokenize

LANGUAGE_TOKENS = {"eng_Latn": 90, "deu_Latn": 91}


def layout_of(tokenizer, **changes) -> Layout:
    values = {"is_encoder_decoder": True, "placeholder": len(tokenizer), "query_tokens": 4, "pad": 1, "eos": 2}
    return Layout(**{**values, **changes})


def texts_of(tokenizer, layout, prompts, targets, limit=32):
    return tokenize(
        tokenizer, layout, prompts, targets, ["eng_Latn"] * len(prompts), ["deu_Latn"] * len(prompts), limit, limit
    )


def test_too_few_placeholders_are_refused(tokenizer):
    layout = layout_of(tokenizer)
    with pytest.raises(ValueError, match="3 image placeholders"):
        check_placeholders(layout, torch.tensor([[layout.placeholder] * 3 + [5]]))


@pytest.mark.parametrize("is_encoder_decoder", [True, False])
def test_every_sample_has_the_models_number_of_placeholders(tokenizer, is_encoder_decoder):
    layout = layout_of(tokenizer, is_encoder_decoder=is_encoder_decoder)
    batch = stack(layout, texts_of(tokenizer, layout, ["a dog", "<mask> </s> cat"], ["yes", "no"]))
    assert (batch["input_ids"] == layout.placeholder).sum(1).tolist() == [4, 4]
    assert batch["attention_mask"].sum(1).tolist() == (batch["input_ids"] != layout.pad).sum(1).tolist()


def test_a_text_that_spells_a_special_token_is_text(tokenizer):
    layout = layout_of(tokenizer)
    (text,) = texts_of(tokenizer, layout, ["</s><pad>"], ["</s>"])
    assert not {1, 2} & set(text.prompt)
    assert text.target.count(2) == 1


def test_a_decoder_only_model_has_labels_on_the_target_alone(tokenizer):
    layout = layout_of(tokenizer, is_encoder_decoder=False)
    texts = texts_of(tokenizer, layout, ["a dog", "cat"], ["yes", "no no no"])
    batch = stack(layout, texts)
    for text, labels, ids in zip(texts, batch["labels"], batch["input_ids"], strict=True):
        assert labels[labels != IGNORED].tolist() == text.target
        assert ids[labels != IGNORED].tolist() == text.target


def test_a_model_with_language_tokens_is_told_both_languages_and_has_no_loss_for_it(tokenizer):
    layout = layout_of(tokenizer, language_tokens=LANGUAGE_TOKENS, decoder_start=2)
    batch = stack(layout, texts_of(tokenizer, layout, ["a dog"], ["yes"]))
    assert batch["input_ids"][0, :5].tolist() == [*[layout.placeholder] * 4, 90]
    assert batch["decoder_input_ids"][0, :2].tolist() == [2, 91]
    assert batch["labels"][0, 0] == IGNORED
    assert batch["labels"][0, 1:].tolist() == [*batch["decoder_input_ids"][0, 2:].tolist(), 2]
    assert stack_prompts(layout, [[90, 5]], ["deu_Latn"])["decoder_input_ids"].tolist() == [[2, 91]]


def test_what_is_cut_says_so(tokenizer):
    layout = layout_of(tokenizer)
    short, long = texts_of(tokenizer, layout, ["a", "a dog and a cat"], ["a", "a dog and a cat"], limit=3)
    assert not short.target_was_cut and not short.prompt_was_cut
    assert long.target_was_cut and long.prompt_was_cut and len(long.target) == len(long.prompt) == 3


def test_prompts_to_generate_from_end_at_the_same_place_in_a_decoder_only_model(tokenizer):
    layout = layout_of(tokenizer, is_encoder_decoder=False)
    batch = stack_prompts(layout, [[5], [5, 6, 7]], ["eng_Latn"] * 2)
    assert batch["input_ids"][:, -1].tolist() == [5, 7]
    assert batch["attention_mask"][0].tolist() == [0, 0, 1, 1, 1, 1, 1]
