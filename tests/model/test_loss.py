"""The loss at label positions, in chunks, is transformers' loss, and so is its gradient."""

import torch

from model.adapt import add_lora
from model.freeze import set_trainable, trainable_parameters
from model.loss import batch_losses, check_against_plain, encode_images

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
