"""The training loss: one encoding an image, and logits only where there is a label.

With a vocabulary of 250,000 the logits of a whole batch are the largest tensor of a step by far (32 × 64 positions: 1.9 GiB in float32, three
times that with gradients). Here the hidden states at label positions are picked before the output matrix, and the cross-entropy is
computed in chunks. The output matrix is frozen in re-alignment, so the gradient is known as soon as a chunk's logits are: it is made at once, in
their place, and neither kept nor computed twice. Where the output matrix learns, each chunk's logits are made again in the backward pass.
What T5 (scaled states) and Gemma 2 (soft-capped logits) do around the output matrix is done here too; `check_against_plain` proves on a batch at
hand that the result is the loss that transformers' own forward gives, so an architecture with another habit fails there instead of training wrongly.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint
from transformers import Blip2ForConditionalGeneration

from model.inputs import IGNORED

LOGITS_BYTES = 256 * 2**20
"""Size of the float32 logits that exist at one time: 268 label positions with a vocabulary of 250,000."""


def encode_images(model: Blip2ForConditionalGeneration, pixel_values: Tensor) -> Tensor:
    """The vision encoder's output (images, patches + 1, width), under inference mode: the encoder is frozen.

    `pixel_values`: (images, 3, height, width), normalised. The copy is an ordinary tensor, which the Q-Former's backward pass may keep.
    """
    with torch.inference_mode():
        states = model.vision_model(pixel_values=pixel_values).last_hidden_state
    return states.clone()


def image_embeddings(model: Blip2ForConditionalGeneration, vision_states: Tensor) -> Tensor:
    """What stands for each image in the language model's input: (images, query tokens, language model width)."""
    queries = model.query_tokens.expand(vision_states.shape[0], -1, -1)
    mask = torch.ones(vision_states.shape[:2], dtype=torch.long, device=vision_states.device)
    states = model.qformer(
        query_embeds=queries, encoder_hidden_states=vision_states, encoder_attention_mask=mask
    ).last_hidden_state
    return model.language_projection(states.to(model.language_projection.weight.dtype))


def label_states(
    model: Blip2ForConditionalGeneration,
    images: Tensor,
    image_of_text: Tensor,
    input_ids: Tensor,
    attention_mask: Tensor,
    labels: Tensor,
    decoder_input_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden states at the positions that have a label.

    `images`: (images, query tokens, width) from `image_embeddings`; `image_of_text`: (texts,), which of them each text is about; the rest
    from `model.inputs.stack`. Returns (states (label positions, width), labels (label positions,), text of each position).
    """
    language_model = model.language_model
    embeddings = language_model.get_input_embeddings()(input_ids)
    places = (input_ids == model.config.image_token_index).unsqueeze(-1)
    embeddings = embeddings.masked_scatter(places, images[image_of_text].to(embeddings.dtype))
    if model.config.use_decoder_only_language_model:
        states = language_model.get_decoder()(
            inputs_embeds=embeddings, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
    else:
        memory = language_model.get_encoder()(inputs_embeds=embeddings, attention_mask=attention_mask).last_hidden_state
        states = language_model.get_decoder()(
            input_ids=decoder_input_ids,
            encoder_hidden_states=memory,
            encoder_attention_mask=attention_mask,
            use_cache=False,
        ).last_hidden_state * _scale_of_states(language_model)
    has_label = labels != IGNORED
    return states[has_label], labels[has_label], has_label.nonzero()[:, 0]


def _scale_of_states(language_model: Any) -> float:
    """What an encoder-decoder multiplies its decoder's output by: T5s with tied embeddings (not mT5) scale it as Mesh TensorFlow did."""
    config = language_model.config
    flag = {"t5": "scale_decoder_outputs", "umt5": "tie_word_embeddings"}.get(config.model_type)
    return config.d_model**-0.5 if flag and getattr(config, flag) else 1.0


def softcap_of(model: Blip2ForConditionalGeneration) -> float | None:
    """The bound c of logits that are capped as c · tanh(logits / c) (Gemma 2), or None."""
    return getattr(model.config.text_config, "final_logit_softcapping", None)


def token_losses(
    states: Tensor, labels: Tensor, output: nn.Linear, chunk: int | None = None, softcap: float | None = None
) -> Tensor:
    """Cross-entropy of each label position in nats, float32, shape (label positions,).

    `states`: (label positions, width); `labels`: (label positions,); `output`: the output matrix, width → vocabulary; `chunk`: label positions
    whose logits exist at one time (by default as many as LOGITS_BYTES holds); `softcap`: see `softcap_of`.
    """
    size = chunk or max(1, LOGITS_BYTES // (4 * output.out_features))
    if softcap is None and type(output) is nn.Linear and not any(p.requires_grad for p in output.parameters()):
        return FrozenOutputLosses.apply(states, labels, output.weight, output.bias, size)

    def losses(some_states: Tensor, some_labels: Tensor) -> Tensor:
        logits = output(some_states).float()
        if softcap is not None:
            logits = softcap * torch.tanh(logits / softcap)
        return cross_entropy(logits, some_labels, reduction="none")

    spans = [slice(start, start + size) for start in range(0, len(labels), size)]
    if len(spans) > 1 and torch.is_grad_enabled():
        return torch.cat([checkpoint(losses, states[span], labels[span], use_reentrant=False) for span in spans])
    return torch.cat([losses(states[span], labels[span]) for span in spans])


class FrozenOutputLosses(torch.autograd.Function):
    """`token_losses` under an output matrix that does not learn.

    The gradient of a position's loss by its state is (softmax(logits) − one-hot(label)) · matrix. Each position has its own loss, so it is made
    in the forward pass and only weighted in the backward pass; what is kept has the size of the states, not of the logits.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, labels: Tensor, weight: Tensor, bias: Tensor | None, chunk: int) -> Tensor:
        losses = torch.empty(len(labels), dtype=torch.float32, device=states.device)
        gradient = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        for start in range(0, len(labels), chunk):
            span = slice(start, start + chunk)
            own = labels[span, None]
            logits = linear(states[span], weight, bias).float()
            logits -= logits.amax(dim=1, keepdim=True)
            of_label = logits.gather(1, own)
            total = logits.exp_().sum(dim=1, keepdim=True)
            losses[span] = (total.log() - of_label).squeeze(1)
            if gradient is not None:
                logits /= total
                logits.scatter_add_(1, own, torch.full_like(of_label, -1.0))
                gradient[span] = logits.to(weight.dtype) @ weight
            del logits
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, by_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (by_loss[:, None] * gradient).to(gradient.dtype), None, None, None, None


def batch_losses(
    model: Blip2ForConditionalGeneration,
    vision_states: Tensor,
    image_of_text: Tensor,
    text: dict[str, Tensor],
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(loss of each label position in nats, text that it belongs to) for a batch; `text` is what `model.inputs.stack` returns."""
    return text_losses(model, image_embeddings(model, vision_states), image_of_text, text, chunk)


def text_losses(
    model: Blip2ForConditionalGeneration,
    images: Tensor,
    image_of_text: Tensor,
    text: dict[str, Tensor],
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`batch_losses` from what `image_embeddings` returned."""
    states, labels, owners = label_states(model, images, image_of_text, **text)
    output = model.language_model.get_output_embeddings()
    return token_losses(states, labels, output, chunk, softcap_of(model)), owners


@torch.no_grad()
def check_against_plain(
    model: Blip2ForConditionalGeneration, pixel_values: Tensor, image_of_text: Tensor, text: dict[str, Tensor]
) -> float:
    """The difference between our mean loss and that of transformers' own forward on the same batch, in nats.

    Raises ValueError above rounding (1e-3 relative). Dropout is off while it is measured, the model's mode is restored.
    """
    was_training = model.training
    model.eval()
    try:
        ours = batch_losses(model, encode_images(model, pixel_values), image_of_text, text, chunk=16)[0].mean()
        plain = model(pixel_values=pixel_values[image_of_text], **text).loss.float()
    finally:
        model.train(was_training)
    difference = float((ours - plain).abs())
    if difference > 1e-3 * max(1.0, float(plain)):
        raise ValueError(
            f"The chunked loss ({float(ours):.5f}) is not transformers' loss ({float(plain):.5f}) for this language model "
            f"({model.config.text_config.model_type}); it does something between its decoder and its loss that model/loss.py does not know."
        )
    return difference
