"""ImageNet-1k's folders with the names of Babel-ImageNet: what is in a picture, and whether a thing is.

    train/n01440764/n01440764_10026.JPEG                       `path`: the folder train
    {"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], …}     `classes`: imagenet_class_index.json
    {"DE": [[0, 1, …], ["Schleie", "Goldfisch", …]], …}                   `labels`: class numbers and names by BabelNet's language code

Babel-ImageNet's names were made by people (they are BabelNet's), so they are given, not translated: an example goes only to languages that
name its class. A name that is not in the language's script (often the Latin name of a species) is not used.

An example of `object_presence` is one of a pair on the same picture: its own class (yes) and another one (no), half of the time a neighbour in
ImageNet's order, where classes of one kind stand together, as in mBLIP.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.corpus import Example, LeftOut, SourceError
from pipeline.languages import ENGLISH, LANGUAGES
from pipeline.quality.script import script_share
from pipeline.sources.build import build_example
from pipeline.sources.config import ImagenetSource

EXTENSIONS = {".jpeg", ".jpg", ".png", ".webp"}
NEIGHBOURS = 3
"""A hard false class is at most this far away in ImageNet's order."""


class LabelsError(ValueError):
    """A file of classes or names that is not in its published form."""


def read_classes(path: Path) -> list[tuple[str, str]]:
    """(synset, English name) by class number. Raises LabelsError."""
    content = _read_json(path)
    try:
        classes = [content[str(number)] for number in range(len(content))]
        return [(str(synset), str(name).replace("_", " ")) for synset, name in classes]
    except (KeyError, TypeError, ValueError) as error:
        raise LabelsError(
            f"{path} is no imagenet_class_index.json: it maps class numbers from 0 to [synset, name] ({error!r})."
        ) from error


def read_names(source: ImagenetSource) -> Iterator[tuple[str, str, str]]:
    """(synset, language, name) for all languages of `languages.csv` that Babel-ImageNet has. Raises LabelsError."""
    content, classes = _read_json(source.labels), read_classes(source.classes)
    for language in LANGUAGES:
        codes = [c.upper() for c in (language.code, language.tag, *language.aliases)]
        code = next((c for c in codes if c in content), None)
        if code is None or language.nllb == ENGLISH:
            continue
        try:
            numbers, names = content[code]
            pairs = list(zip(numbers, names, strict=True))
        except (TypeError, ValueError) as error:
            raise LabelsError(
                f"{source.labels}, language {code}: it must be two lists of one length, class numbers and names ({error})."
            ) from error
        for number, name in pairs:
            if not isinstance(number, int) or not 0 <= number < len(classes) or not isinstance(name, str):
                raise LabelsError(
                    f"{source.labels}, language {code}: {number!r} is no class of {source.classes}, or {name!r} is no name."
                )
            name = name.replace("_", " ").strip()
            if name and script_share(name, language.nllb) > 0.5:
                yield classes[number][0], language.nllb, name


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise LabelsError(f"{path} is not JSON: {error}.") from error
    if not isinstance(content, dict) or not content:
        raise LabelsError(f"{path} must be a JSON object with entries.")
    return content


def read(source: ImagenetSource) -> Iterator[Example | SourceError | LeftOut]:
    """Stream the pictures class by class."""
    classes = read_classes(source.classes)
    numbers = {synset: number for number, (synset, _) in enumerate(classes)}
    for entry in sorted(os.scandir(source.path), key=lambda e: e.name):
        if not entry.is_dir():
            continue
        if entry.name not in numbers:
            yield SourceError(
                f"{source.path}, folder {entry.name}", "", "unknown_class", f"{source.classes} has no {entry.name}"
            )
            continue
        names = sorted(n for n in os.listdir(entry.path) if Path(n).suffix.lower() in EXTENSIONS)
        names.sort(key=_hash)
        kept = names if source.per_class is None else names[: source.per_class]
        if len(names) > len(kept):
            yield LeftOut("beyond_per_class", len(names) - len(kept))
        for name in kept:
            for task in source.tasks:
                yield from _examples(source, classes, numbers[entry.name], f"{entry.name}/{name}", task)


def _examples(
    source: ImagenetSource, classes: list[tuple[str, str]], number: int, image: str, task: str
) -> Iterator[Example | SourceError | LeftOut]:
    own_id, where = Path(image).stem, f"{source.path / image}"
    synset, name = classes[number]
    if task == "classification":
        yield build_example(source, where, f"{own_id}-class", task, image, [("name", name)], given=synset)
        return
    other = _other_class(classes, number, own_id)
    if other is None:
        yield LeftOut("no_other_class", 1)
        return
    for label, (key, text) in (("yes", (synset, name)), ("no", classes[other])):
        texts: list[tuple[str, object]] = [("name", text), ("label", label)]
        yield build_example(source, where, f"{own_id}-{label}", task, image, texts, group=own_id, given=key)


def _other_class(classes: list[tuple[str, str]], number: int, own_id: str) -> int | None:
    """A class of another name, by a hash of the picture: half of the time near, half of the time any."""
    seed, count = _hash(own_id), len(classes)
    near = [number + d for d in range(-NEIGHBOURS, NEIGHBOURS + 1) if d and 0 <= number + d < count]
    pool = near if seed % 2 else range(count)
    for step in range(count):
        for candidates in (pool, range(count)):
            other = candidates[(seed // 2 + step) % len(candidates)] if candidates else number
            if classes[other][1].lower() != classes[number][1].lower():
                return other
    return None


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
