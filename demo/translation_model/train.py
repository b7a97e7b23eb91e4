"""Train the demo translation model: NLLB's architecture in small, on a CPU, for a given time.

The model is transformers' `M2M100ForConditionalGeneration` as NLLB configures it. Only the forward pass used in training is written
here, because two things make it several times faster than the class's own on a CPU: an English text is encoded once for all the
languages that it is decoded into (see batches.py), and the loss with its gradients is computed in chunks that stay in the cache.
`check_forward` holds it against the class's own forward pass before training starts.

The learning rate follows the clock, not a number of steps: it reaches zero when the time is up, also on a machine that is shared.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import math
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, M2M100Config, M2M100ForConditionalGeneration

from demo.translation_model.batches import Batch, Sampler

log = logging.getLogger("train")

LABEL_SMOOTHING = 0.1
PEAK_RATE = 1e-3
WARM_UP = 0.02
EMA_EVERY, EMA_DECAY = 10, 0.98
SEED = 1
BLOCKED = -1e9
"""Added to the attention scores of padding and of later positions."""


def new_model(vocabulary: int) -> M2M100ForConditionalGeneration:
    config = M2M100Config(
        vocab_size=vocabulary,
        d_model=256,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_ffn_dim=1024,
        max_position_embeddings=512,
        activation_function="relu",
        scale_embedding=True,
        # As fairseq initialises embeddings; the default of .02 suits a width of 1,024.
        init_std=256**-0.5,
        tie_word_embeddings=True,
        dropout=0.0,
        attention_dropout=0.0,
        encoder_layerdrop=0.0,
        decoder_layerdrop=0.0,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    torch.manual_seed(SEED)
    return M2M100ForConditionalGeneration(config)


class SmoothedLoss(torch.autograd.Function):
    """Cross-entropy of `hidden @ weight.T`, mean over labels, whose gradients are those of the label-smoothed cross-entropy.

    hidden [positions, width], weight [vocabulary, width], labels [positions] with -100 for none. The gradient of the logits is
    softmax - (1 - s) onehot - s / vocabulary; the last term is constant, so it is added after the products, and everything as wide as
    the vocabulary is touched only by the products and one softmax.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        hidden, weight = hidden.bfloat16(), weight.bfloat16()
        known = (labels >= 0).float().unsqueeze(1)
        known /= known.sum()
        scaled = hidden * known.bfloat16()
        labels = labels.clamp(min=0).unsqueeze(1)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros(weight.shape)
        total = torch.zeros(())
        for start in range(0, len(labels), 512):
            rows = slice(start, start + 512)
            p = torch.softmax(hidden[rows] @ weight.T, -1)
            total -= (p.gather(1, labels[rows]).float().clamp(min=1e-9).log() * known[rows]).sum()
            p.scatter_add_(1, labels[rows], torch.full_like(labels[rows], smoothing - 1, dtype=p.dtype))
            grad_hidden[rows] = p @ weight
            grad_weight += p.T @ scaled[rows]
        constant = smoothing / len(weight)
        grad_hidden = (grad_hidden.float() - constant * weight.float().sum(0)) * known
        grad_weight -= constant * scaled.float().sum(0)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grad_output, grad_weight * grad_output, None, None


def heads(x: Tensor, attention: nn.Module) -> Tensor:
    """[batch, length, width] -> [batch, heads, length, width of a head]"""
    return x.unflatten(-1, (attention.num_heads, attention.head_dim)).transpose(1, 2)


def embed(stack: nn.Module, table: Tensor, ids: Tensor) -> Tensor:
    """Scaled embeddings plus sinusoidal positions. Padding is only ever on the right, so positions are a plain range."""
    first = stack.padding_idx + 1
    positions = stack.embed_positions.weights[first : first + ids.shape[1]]
    x = F.embedding(ids, table) * math.sqrt(table.shape[1]) + positions
    # The residual stream takes autocast's type from here on, or every product would begin and end with a conversion.
    return x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x


def feed_forward(layer: nn.Module, x: Tensor) -> Tensor:
    return x + layer.fc2(F.relu(layer.fc1(layer.final_layer_norm(x))))


def attend(attention: nn.Module, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Plain products: on a CPU the backward pass of torch's fused attention is ten times slower on rows as short as these."""
    scores = torch.add(bias.to(q.dtype), q @ k.transpose(-1, -2), alpha=q.shape[-1] ** -0.5)
    mixed = scores.softmax(-1).to(v.dtype) @ v
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def encode(model: M2M100ForConditionalGeneration, source: Tensor, bias: Tensor) -> Tensor:
    encoder = model.model.encoder
    x = embed(encoder, model.model.shared.weight, source)
    for layer in encoder.layers:
        a, y = layer.self_attn, layer.self_attn_layer_norm(x)
        x = x + attend(a, heads(a.q_proj(y), a), heads(a.k_proj(y), a), heads(a.v_proj(y), a), bias)
        x = feed_forward(layer, x)
    return encoder.layer_norm(x)


def decode(
    model: M2M100ForConditionalGeneration, encoded: Tensor, bias: Tensor, rows: Tensor, decoder_input: Tensor
) -> Tensor:
    """Hidden states [rows, length, width]. Keys and values of an English text are computed once and shared by its rows."""
    decoder = model.model.decoder
    x = embed(decoder, model.model.shared.weight, decoder_input)
    bias = bias[rows]
    causal = torch.full((x.shape[1], x.shape[1]), BLOCKED).triu(1)
    for layer in decoder.layers:
        a, y = layer.self_attn, layer.self_attn_layer_norm(x)
        x = x + attend(a, heads(a.q_proj(y), a), heads(a.k_proj(y), a), heads(a.v_proj(y), a), causal)
        c, y = layer.encoder_attn, layer.encoder_attn_layer_norm(x)
        keys, values = (heads(project(encoded), c).index_select(0, rows) for project in (c.k_proj, c.v_proj))
        x = x + attend(c, heads(c.q_proj(y), c), keys, values, bias)
        x = feed_forward(layer, x)
    return decoder.layer_norm(x)


def forward(model: M2M100ForConditionalGeneration, source: Tensor, rows: Tensor, decoder_input: Tensor) -> Tensor:
    bias = (source == model.config.pad_token_id)[:, None, None, :] * BLOCKED
    return decode(model, encode(model, source, bias), bias, rows, decoder_input)


def loss_of(model: M2M100ForConditionalGeneration, batch: Batch) -> Tensor:
    source, rows, decoder_input, positions, labels = (torch.from_numpy(array) for array in vars(batch).values())
    with torch.autocast("cpu", torch.bfloat16):
        hidden = forward(model, source, rows, decoder_input).flatten(0, 1).index_select(0, positions)
    return SmoothedLoss.apply(hidden, model.lm_head.weight, labels, LABEL_SMOOTHING)


@torch.no_grad()
def check_forward(model: M2M100ForConditionalGeneration, batch: Batch) -> None:
    """Raise unless this file's forward pass gives the class's own logits."""
    source, rows, decoder_input, *_ = (torch.from_numpy(array) for array in vars(batch).values())
    rows, decoder_input = rows[:16], decoder_input[:16]
    ours = forward(model, source, rows, decoder_input) @ model.lm_head.weight.T
    pad = model.config.pad_token_id
    theirs = model(input_ids=source[rows], attention_mask=source[rows] != pad, decoder_input_ids=decoder_input).logits
    real = decoder_input != pad
    torch.testing.assert_close(ours[real], theirs[real], rtol=1e-3, atol=1e-3)


def rate(progress: float) -> float:
    """Linear warm-up, then a cosine to zero; `progress` is the share of the time that has passed."""
    return PEAK_RATE * min(progress / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))


def save(weights: dict[str, Tensor], path: Path) -> None:
    aside = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, aside)
    aside.replace(path)


def load_weights(model: M2M100ForConditionalGeneration, path: Path) -> None:
    """Load what `save` wrote. Tied embeddings are stored once; raises if anything else is missing."""
    missing, unexpected = model.load_state_dict(load_file(path), strict=False)
    lost = [name for name in missing if name not in model.all_tied_weights_keys]
    if lost or unexpected:
        raise ValueError(f"{path} does not fit the model: missing {lost}, unexpected {unexpected}")


def new_optimizer(model: M2M100ForConditionalGeneration) -> torch.optim.AdamW:
    """AdamW with a long memory and a large epsilon for the embeddings.

    They are also the output layer, so every row gets a small noisy gradient at every step, which Adam's usual settings scale up to a full
    step, also for an English word that the batch does not hold. With those, and a higher rate, the model hardly used its source.
    """
    embeddings = model.model.shared.weight
    others = [parameter for parameter in model.parameters() if parameter is not embeddings]
    groups = [{"params": [embeddings], "betas": (0.9, 0.999), "eps": 1e-4}, {"params": others, "betas": (0.9, 0.99)}]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, weight_decay=0.01, fused=True)


def train(
    model: M2M100ForConditionalGeneration, sampler: Sampler, minutes: float, out: Path, save_minutes: float
) -> None:
    parameters = dict(model.named_parameters())
    average = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    optimizer = new_optimizer(model)
    start = saved = reported = time.monotonic()
    pairs, losses = 0, []
    for step, batch in zip(itertools.count(), sampler):
        progress = (time.monotonic() - start) / (60 * minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(progress)
        loss = loss_of(model, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        if step % EMA_EVERY == 0:
            decay = min(EMA_DECAY, step / (step + 100))
            torch._foreach_lerp_(list(average.values()), [p.detach() for p in parameters.values()], 1 - decay)
        pairs += len(batch.rows)
        losses.append(loss.item())
        now = time.monotonic()
        if now - reported > 30:
            log.info(
                "%.3f step %d pairs %d pairs/s %.0f loss %.3f",
                progress,
                step,
                pairs,
                pairs / (now - start),
                np.mean(losses),
            )
            reported, losses = now, []
        if now - saved > 60 * save_minutes:
            saved = now
            save(average, out / "model.safetensors")
    save(average, out / "model.safetensors")
    log.info("done: %d steps, %d pairs", step, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="what collect.py wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="what vocabulary.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="folder for model.safetensors (averaged weights)")
    parser.add_argument("--start", type=Path, help="weights to start from instead of random ones")
    parser.add_argument("--minutes", type=float, default=110)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--tokens", type=int, default=2048, help="target tokens in a batch, padding included")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    model = new_model(len(tokenizer))
    if arguments.start:
        load_weights(model, arguments.start)
    log.info("%.2f M parameters", sum(p.numel() for p in model.parameters()) / 1e6)
    sampler = Sampler(pq.read_table(arguments.pairs), tokenizer, arguments.tokens, SEED)
    check_forward(model, next(iter(sampler)))
    train(model, sampler, arguments.minutes, arguments.out, arguments.save_minutes)


if __name__ == "__main__":
    main()
