"""Small eyes that have seen pictures: a ViT and a Q-Former, trained in BLIP-2's two stages (Li et al. 2023, sections 3.2 and 3.3) on drawings.

BLIP-2's own eyes can't be had without a network, and eyes that were trained on the demo's two hundred images alone know those by heart and see
nothing in any other. So they learn from other drawings (`training/drawings.py`), in minutes on two cores:

1. `learn_names`, without the language model but for its word embeddings. An image and its name are to have like vectors and unlike others (contrast):
   an image's is the mean of what will stand for it in the language model's input, a name's the mean of its word embeddings. And each
   query token is to be near the word that has its place in the name, so that the language model meets vectors that it can read.
2. `learn_to_be_read`, with the frozen language model's loss: it is to write the name, and to answer questions. The vision encoder is frozen too.
"""

import logging
import time
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_
from transformers import Blip2ForConditionalGeneration, PreTrainedTokenizerBase

from model.freeze import set_trainable
from model.images import normalise
from model.inputs import Layout, stack, tokenize
from model.loss import encode_images, image_embeddings, text_losses
from pipeline.languages import ENGLISH
from pipeline.render import fill, read_templates
from training import report
from training.contrast import contrast
from training.drawings import Drawings, vary
from training.step import arithmetic

log = logging.getLogger(__name__)

TEMPERATURE = 0.07
"""As BLIP-2's image-text contrast starts with."""
WORD_TEMPERATURE = 0.1
"""Of the choice of a query token's word, to start with."""
NEARNESS = 0.3
"""Weight of the distance between a query token and its word, in units of the embeddings' variance."""
SHAPES_A_BATCH = 0.2
"""Share of a batch of `learn_names` that is easy-VQA's: there are only 24 kinds of them."""
ASKED_A_BATCH = 0.5
"""Share of a batch of `learn_to_be_read` that is questions; the rest is names."""


def learn_names(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    emoji: Drawings,
    shapes: Drawings,
    steps: int,
    seed: int = 0,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
) -> float:
    """Train vision encoder, Q-Former, query tokens and projection of `model` in place, without its language model; returns the mean loss at the
    end, nats: contrast, choice of words, and nearness to them.

    What a name has fewer words than there are query tokens is filled up with line breaks; what it has more is cut.
    """
    set_trainable(model, ["vision", "qformer", "query_tokens", "projection"])
    embed = model.language_model.get_input_embeddings()
    fill_up = tokenizer("\n", add_special_tokens=False)["input_ids"][:1] * model.config.num_query_tokens
    collections = (emoji, shapes)
    names = [
        tokenizer([f" {name}" for name in drawings.names], add_special_tokens=False)["input_ids"]
        for drawings in collections
    ]
    ids = [torch.tensor([(name + fill_up)[: len(fill_up)] for name in of]) for of in names]
    used, numbers = torch.cat(ids).unique(return_inverse=True)
    words = numbers.split([len(of) for of in ids])
    with torch.no_grad():
        vocabulary = embed.weight[used].float()  # (words, width)
        middle, variance = vocabulary.mean(0), vocabulary.var(0).mean()
        vectors = [torch.stack([embed(torch.tensor(name)).float().mean(0) for name in of]) for of in names]
        projection = model.language_projection
        projection.weight.normal_(std=float(variance / projection.in_features) ** 0.5)
        projection.bias.copy_(middle)
    directions = functional.normalize(vocabulary - middle, dim=1)
    scales = [nn.Parameter(torch.tensor(1 / warmth).log()) for warmth in (TEMPERATURE, WORD_TEMPERATURE)]
    generator = torch.Generator().manual_seed(seed)
    sizes = [batch_size - round(SHAPES_A_BATCH * batch_size), round(SHAPES_A_BATCH * batch_size)]

    def loss() -> Tensor:
        chosen = [
            torch.randint(len(drawings.names), (size,), generator=generator)
            for drawings, size in zip(collections, sizes, strict=True)
        ]
        pixels = _pick([drawings.pixels for drawings in collections], chosen)
        seen = image_embeddings(
            model, model.vision_model(pixel_values=normalise(vary(pixels, generator))).last_hidden_state
        )
        kinds = [drawings.names[i] for drawings, of in zip(collections, chosen, strict=True) for i in of.tolist()]
        same = torch.tensor([[float(a == b) for b in kinds] for a in kinds])  # two red circles are no contrast
        told_apart = contrast(seen.mean(1), _pick(vectors, chosen), middle, scales[0], same / same.sum(1, keepdim=True))
        wanted = _pick(words, chosen)
        choice = functional.normalize(seen - middle, dim=2) @ directions.T * scales[1].exp()
        distance = (seen - vocabulary[wanted]).square().mean() / variance
        return told_apart + functional.cross_entropy(choice.flatten(0, 1), wanted.flatten()) + NEARNESS * distance

    return _optimise(model, scales, loss, steps, learning_rate, "names")


def learn_to_be_read(
    model: Blip2ForConditionalGeneration,
    tokenizer: PreTrainedTokenizerBase,
    emoji: Drawings,
    shapes: Drawings,
    steps: int,
    seed: int = 0,
    precision: torch.dtype = torch.float32,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
) -> float:
    """Train Q-Former, query tokens and projection of `model` in place by what its frozen language model says; returns the mean loss at the end,
    nats a token.

    It writes the names of `emoji` and answers the questions about `shapes`, half of which are such as are not answered with yes or no; both
    are asked for as the pipeline's English prompts do. `precision`: of the forward passes.
    """
    set_trainable(model, ["qformer", "query_tokens", "projection"])
    layout, templates = Layout.of(model.config, tokenizer), read_templates()
    generator = torch.Generator().manual_seed(seed)
    asked = round(ASKED_A_BATCH * batch_size)

    def one_of(options: Sequence) -> int:
        return int(torch.randint(len(options), (), generator=generator))

    def asked_for(task: str, **fields: str) -> tuple[str, str]:
        """Prompt and target, in one of the task's English prompts."""
        usable = [template for template in templates[task] if not template.is_translated]
        said = [{"role": role, "text": text, "source": text, "origin": ""} for role, text in fields.items()]
        return fill(usable[one_of(usable)], ENGLISH, said, {})

    def loss() -> Tensor:
        chosen = [one_of(emoji.names) for _ in range(batch_size - asked)], [one_of(shapes.names) for _ in range(asked)]
        texts = [asked_for("captioning", caption=emoji.names[i]) for i in chosen[0]]
        for i in chosen[1]:
            questions = shapes.questions[i]
            if one_of((0, 1)):
                questions = [pair for pair in questions if pair[1] not in ("yes", "no")] or questions
            question, answer = questions[one_of(questions)]
            texts.append(asked_for("vqa", question=question, answer=answer))
        pixels = _pick([emoji.pixels, shapes.pixels], [torch.tensor(of) for of in chosen])
        prompts, targets = zip(*texts, strict=True)
        english = [ENGLISH] * batch_size
        tokenized = tokenize(tokenizer, layout, prompts, targets, english, english, 64, 64)
        with arithmetic(precision, pixels.device):
            images = image_embeddings(model, encode_images(model, normalise(vary(pixels, generator))))
            losses, _ = text_losses(model, images, torch.arange(batch_size), stack(layout, tokenized))
        return losses.mean()

    return _optimise(model, [], loss, steps, learning_rate, "reading", every=25)


def _optimise(
    model: nn.Module,
    more: Iterable[nn.Parameter],
    loss: Callable[[], Tensor],
    steps: int,
    learning_rate: float,
    what: str,
    every: int = 100,
) -> float:
    """AdamW with one cycle of the learning rate on what of `model` learns and on `more`; returns the mean of the last `every` losses."""
    parameters = [*more, *(p for p in model.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    started, losses = time.monotonic(), []
    model.train()
    for step in range(1, steps + 1):
        found = loss()
        found.backward()
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(found.detach()))
        if step % every == 0 or step == steps:
            left = report.duration((time.monotonic() - started) / step * (steps - step))
            recent = losses[-every:]
            log.info("eyes, %s: step %d of %d, loss %.3f, %s left", what, step, steps, sum(recent) / len(recent), left)
    model.eval()
    return sum(losses[-every:]) / len(losses[-every:])


def _pick(collections: Sequence[Tensor], chosen: Sequence[Tensor]) -> Tensor:
    """Of each collection what was chosen, one after the other."""
    return torch.cat([of[i] for of, i in zip(collections, chosen, strict=True)])
