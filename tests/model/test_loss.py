"""The loss at label positions, in chunks, is transformers' loss, and so is its gradient."""

import pytest
import torch

from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.loss import batch_losses, check_against_plain, encode_images, token_losses

TRAINED = ("qformer", "query_tokens", "projection", "adapter")


def test_chunked_loss_and_gradient_equal_transformers_own(model, batch):
    add_lora(model, dropout=0.0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at first, which would hide half of the gradients
            torch.nn.init.normal_(parameter, std=0.05)
    set_trainable(model, TRAINED)
    model.eval()

    pixel_values, image_of_text, text = batch["pixel_values"], batch["image_of_text"], batch["text"]
    plain = model(pixel_values=pixel_values[image_of_text], **text).loss
    plain.backward()
    expected = {name: p.grad.clone() for _, name, p in trainable_parameters(model)}
    model.zero_grad()
    losses, owners = batch_losses(model, encode_images(model, pixel_values), image_of_text, text, chunk=2)
    losses.mean().backward()

    torch.testing.assert_close(losses.mean(), plain, rtol=1e-5, atol=1e-5)
    assert owners.bincount().tolist() == (text["labels"] != -100).sum(1).tolist()
    for _, name, parameter in trainable_parameters(model):
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-6, msg=name)


def test_the_check_at_the_start_of_a_run_finds_what_the_loss_does_not_know(model, batch):
    assert check_against_plain(model, **batch) < 1e-4

    class Louder(torch.nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder = decoder

        def forward(self, **inputs):
            output = self.decoder(**inputs)
            output.last_hidden_state = output.last_hidden_state * 1.5
            return output

    get_decoder = model.language_model.get_decoder
    model.language_model.get_decoder = lambda: Louder(get_decoder())
    try:
        check_against_plain(model, **batch)
    except ValueError as error:
        assert "transformers' loss" in str(error)
    else:
        raise AssertionError("a different loss went unnoticed")


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_losses_and_gradients_by_the_states_are_those_of_cross_entropy(learns, bias):
    torch.manual_seed(0)
    output = torch.nn.Linear(8, 50, bias=bias).requires_grad_(learns)
    states, labels, weights = torch.randn(13, 8) * 3, torch.randint(50, (13,)), torch.rand(13)
    results = []
    for chunk in (None, 4, 0):
        some = states.clone().requires_grad_()
        if chunk == 0:
            losses = torch.nn.functional.cross_entropy(output(some), labels, reduction="none")
        else:
            losses = token_losses(some, labels, output, chunk)
        (losses * weights).sum().backward()
        results.append((losses.detach(), some.grad))
    for ours in results[:2]:
        torch.testing.assert_close(ours, results[2], rtol=1e-5, atol=1e-6)


def test_no_logits_are_kept_for_the_backward_pass():
    output = torch.nn.Linear(8, 5000, bias=False).requires_grad_(False)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        token_losses(torch.randn(64, 8, requires_grad=True), torch.randint(5000, (64,)), output, chunk=8)
    assert sum(kept) <= 64 * 8 + output.weight.numel()
