"""What is frozen gets no gradient and does not change; what is trained changes."""

import pytest
import torch

from model.adapt import add_lora
from model.freeze import part_of, set_trainable
from model.loss import batch_losses, encode_images

TRAINED = {"qformer", "query_tokens", "projection", "adapter"}


def test_a_step_changes_what_is_trained_and_nothing_else(model, batch):
    add_lora(model)
    set_trainable(model, TRAINED)
    model.train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(2):  # LoRA's A matrices get no gradient while B is zero
        losses, _ = batch_losses(
            model, encode_images(model, batch["pixel_values"]), batch["image_of_text"], batch["text"]
        )
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
    changed = set()
    for name, parameter in model.named_parameters():
        if part_of(name) in TRAINED:
            changed |= {part_of(name)} if not torch.equal(parameter, before[name]) else set()
        else:
            assert parameter.grad is None, name
            assert torch.equal(parameter, before[name]), name
    assert changed == TRAINED


def test_a_part_that_is_not_there_is_refused(model):
    with pytest.raises(ValueError, match="adapter"):
        set_trainable(model, TRAINED)


def test_a_parameter_of_no_part_is_refused():
    with pytest.raises(ValueError, match=r"model/freeze\.py"):
        part_of("audio_model.layer.weight")
