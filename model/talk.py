"""What to say to a model: a caption, an answer, a conversation about an image, in a language.

The prompts are those that training shows it (`pipeline/prompts`): English ones that name the language, and, for a conversation, the turns as
they are, one a line. A model of NLLB's family is told the language of its answer by a token as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.generate import Decoding, generate
from model.images import normalise
from model.load import LoadedModel
from pipeline.languages import BY_NLLB, ENGLISH

CAPTION = Decoding(beams=5, max_new_tokens=50)
ANSWER = Decoding(beams=5, max_new_tokens=10, length_penalty=-1.0)
"""As mBLIP is evaluated: negative, so that beam search prefers short answers."""


def caption(
    loaded: LoadedModel, images: Sequence[Tensor], languages: Sequence[str], decoding: Decoding = CAPTION
) -> list[str]:
    """One caption for each pair of image (uint8 (3, size, size), `model.images`) and language (NLLB code)."""
    return say(
        loaded, images, [caption_prompt(code) for code in languages], [ENGLISH] * len(images), languages, decoding
    )


def answer(
    loaded: LoadedModel,
    images: Sequence[Tensor],
    questions: Sequence[str],
    languages: Sequence[str],
    decoding: Decoding = ANSWER,
) -> list[str]:
    """One short answer in each language for each pair of image and question; a question may be in any language."""
    prompts = [question_prompt(*pair) for pair in zip(questions, languages, strict=True)]
    return say(loaded, images, prompts, [ENGLISH] * len(images), languages, decoding)


def caption_prompt(language: str) -> str:
    return f"Caption in {BY_NLLB[language].name}:"


def question_prompt(question: str, language: str) -> str:
    return f"Question: {question} Short answer in {BY_NLLB[language].name}:"


def say(
    loaded: LoadedModel,
    images: Sequence[Tensor],
    prompts: Sequence[str],
    prompt_languages: Sequence[str],
    languages: Sequence[str],
    decoding: Decoding,
) -> list[str]:
    """What the model writes to each pair of image and prompt, all in one batch."""
    device = loaded.model.query_tokens.device
    pixels = normalise(torch.stack(list(images))).to(device)
    return generate(loaded.model, loaded.tokenizer, pixels, prompts, prompt_languages, languages, decoding)


@dataclass
class Conversation:
    """Questions and answers about one image; each question is asked with all that was said before."""

    loaded: LoadedModel
    image: Tensor
    """uint8 (3, size, size)."""
    turns: list[tuple[str, str]] = field(default_factory=list)
    """What was said by the person and by the model."""

    def ask(self, text: str, language: str, decoding: Decoding = CAPTION) -> str:
        """The model's answer to `text` in `language` (NLLB code), which becomes a turn."""
        said = [line for turn in self.turns for line in turn]
        (reply,) = say(self.loaded, [self.image], ["\n".join([*said, text])], [language], [language], decoding)
        self.turns.append((text, reply))
        return reply
