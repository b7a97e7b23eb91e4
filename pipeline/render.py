"""Fields + prompts -> (prompt, target).

`prompts/` holds one YAML file a task: English templates, templates that are translated, and the target. Slots are roles of the task, `{language}`
(the target language's English name) and, for conversations, `{conversation}`. Slots never go through the translator: of a translated template
only the text between the slots does, sentence by sentence, like any other text.

Which template a sample gets is a hash of its id, so rendering is the same on any machine and in any order. Each sample records in which language
its prompt's own words and its target are.

Where a short answer stayed English (`short_answers.py`), the prompt is an English one; if the answer is in the target, the whole target is English,
and the prompt asks for English.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from pipeline.corpus import ROLES, SAMPLES
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.short_answers import KEPT_ENGLISH

VERSION = 3

FOLDER = Path(__file__).with_name("prompts")
SLOT = re.compile(r"(\{[a-z]+\})")
SENTENCE_FINAL = ".!?。！？।۔؟…。"


class PromptError(ValueError):
    """A prompt file that can't be used."""


@dataclass(frozen=True)
class Template:
    id: str
    task: str
    prompt: str
    target: str
    is_translated: bool
    target_is_english: bool

    def texts(self) -> list[str]:
        """The prompt's own words: what stands between the slots."""
        return [part.strip() for part in SLOT.split(self.prompt) if not SLOT.fullmatch(part) and part.strip()]


@cache
def read_templates(folder: Path = FOLDER) -> dict[str, tuple[Template, ...]]:
    """Templates by task. Raises PromptError that names the file when a task has none or a template loses or invents a role."""
    templates: dict[str, tuple[Template, ...]] = {}
    for task, roles in ROLES.items():
        path = folder / f"{task}.yaml"
        if not path.exists():
            raise PromptError(f"There are no prompts for the task {task}: {path} is missing.")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if content.get("task") != task or not content.get("english"):
            raise PromptError(f"{path}: `task` must be {task}, and `english` needs at least one template.")
        found = [
            Template(
                id=f"{task}-{kind[:2]}-{number}",
                task=task,
                prompt=prompt,
                target=content["target"],
                is_translated=kind == "translated",
                target_is_english=content.get("target_language") == "english",
            )
            for kind in ("english", "translated")
            for number, prompt in enumerate(content.get(kind) or [])
        ]
        for template in found:
            if template.is_translated and any(not text[0].isalpha() for text in template.texts()):
                raise PromptError(
                    f"{path}: in the translated template {template.prompt!r} a text between slots begins with no letter. Punctuation "
                    "does not survive translation: put no quotes round slots, and let each text be a sentence or a label."
                )
            named = set(re.findall(r"\{([a-z]+)\}", template.prompt + template.target))
            slots = named - {"language"} - {"conversation"} | ({"instruction"} if "conversation" in named else set())
            unknown, lost = slots - set(roles), set(roles) - slots
            if not template.is_translated and "{answer}" in template.target and "language" not in named:
                raise PromptError(
                    f"{path}: the template {template.prompt!r} does not say {{language}}. It must, since some answers stay English."
                )
            # an answer may be asked for without being shown: captioning shows nothing, and that is all it has
            if unknown or lost:
                raise PromptError(
                    f"{path}: the template {template.prompt!r} has unknown slots {sorted(unknown)} or loses {sorted(lost)}."
                )
        templates[task] = tuple(found)
    return templates


def prompt_texts(templates: Mapping[str, Iterable[Template]], tasks: Iterable[str] | None = None) -> list[str]:
    """The texts to translate for the translated templates of `tasks` (by default of all), each once, sorted."""
    groups = [templates[task] for task in (templates if tasks is None else tasks)]
    return sorted({text for group in groups for t in group if t.is_translated for text in t.texts()})


def fingerprint(templates: Mapping[str, Iterable[Template]]) -> list[Any]:
    """What a stage key needs to notice a change of the prompts."""
    return [[t.id, t.prompt, t.target, t.target_is_english] for group in templates.values() for t in group]


def _choice(sample_id: str, purpose: str) -> float:
    """A number in [0, 1) that depends on the sample and what it is for."""
    digest = hashlib.blake2b(f"{purpose}\0{sample_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def choose_template(
    sample_id: str,
    language: str,
    templates: tuple[Template, ...],
    translated: Mapping[str, str],
    translated_share: float,
) -> Template:
    """The template of a sample. A translated one is taken for `translated_share` of the samples, if `translated` has all its texts."""
    usable = [
        t for t in templates if t.is_translated and language != ENGLISH and all(x in translated for x in t.texts())
    ]
    if not usable or _choice(sample_id, "prompt language") >= translated_share:
        usable = [t for t in templates if not t.is_translated]
    return usable[int(_choice(sample_id, "template") * len(usable))]


def fill(
    template: Template,
    language: str,
    fields: list[dict[str, str]],
    translated: Mapping[str, str],
    asks_english: bool = False,
) -> tuple[str, str]:
    """The prompt and the target of one sample, from its translated fields. `asks_english`: ask for English, and answer with the English fields."""
    values = {"object" if f["role"] == "name" else f["role"]: f["text"].strip() for f in fields}
    values["language"] = BY_NLLB[ENGLISH if asks_english else language].name
    values["conversation"] = "\n".join(field["text"].strip() for field in fields[:-1])
    parts = []
    for part in SLOT.split(template.prompt):
        if SLOT.fullmatch(part):
            parts.append(values[part[1:-1]])
        elif template.is_translated and part.strip():
            parts.append(part.replace(part.strip(), translated[part.strip()]))
        else:
            parts.append(part)
    if asks_english:
        values |= {f["role"]: f["source"].strip() for f in fields}
    target = SLOT.sub(lambda m: values[m[1][1:-1]], template.target)
    if template.task == "reasoning" and values["answer"].endswith(tuple(SENTENCE_FINAL)):
        target = f"{values['answer']} {values['rationale']}"
    return "".join(parts), target


def render(
    accepted: pa.Table,
    images: Mapping[str, tuple[str, str]],
    scores: Mapping[str, dict[str, Any] | None],
    prompts: Mapping[str, Mapping[str, str]],
    templates: Mapping[str, tuple[Template, ...]],
    translated_share: float,
) -> pa.Table:
    """Render accepted candidates (schema CANDIDATES) to samples (schema SAMPLES), in the same order.

    `images`: (path, sha256) by example id. `scores`: by planned id. `prompts`: accepted translations of prompt texts, by language, then by text.
    """
    rows = []
    for c in accepted.to_pylist():
        language = c["language"]
        origin = next((f["origin"] for f in c["fields"] if f["origin"]), "")
        translated = {} if origin == KEPT_ENGLISH else prompts.get(language, {})
        template = choose_template(c["id"], language, templates[c["task"]], translated, translated_share)
        asks_english = origin == KEPT_ENGLISH and "{answer}" in template.target
        prompt, target = fill(template, language, c["fields"], translated, asks_english)
        has_own_words = bool(template.texts())
        rows.append(
            {
                "id": c["id"],
                "example": c["example"],
                "source": c["source"],
                "task": c["task"],
                "language": language,
                "prompt_language": language if template.is_translated or not has_own_words else ENGLISH,
                "target_language": ENGLISH if template.target_is_english or asks_english else language,
                "template": template.id,
                "prompt": prompt,
                "target": target,
                "answer_origin": origin,
                "english": "\n".join(f["source"] for f in c["fields"] if f["role"] != "label"),
                "image": images[c["example"]][0],
                "image_sha256": images[c["example"]][1],
                "scores": scores.get(c["id"]),
            }
        )
    return pa.Table.from_pylist(rows, schema=SAMPLES)
