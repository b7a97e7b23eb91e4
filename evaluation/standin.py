"""Stand-ins: every benchmark's files, in the owner's exact format, made of the embedded sample.

    python -m evaluation.standin --out runs/standin

The real sets can't be shipped. These have real images (Noto emoji) and texts by human translators (their CLDR names, in up to 85 languages), so
that readers, protocols, metrics and the report run from end to end and a trained model gets an honest figure on images it has not seen. They
are no measure of quality: a name of two words is a short caption, and questions are made of names. Sentences in other languages are never made
up here: a text is an emoji's CLDR name, with a question mark where a benchmark asks.

`--held-out-of RUN` takes only the images that this training run kept from training (`--held-out` of training/realign.py).
"""

import argparse
import io
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from evaluation.benchmarks.pope import SETTINGS
from evaluation.records import facts
from model.assemble import in_repository
from pipeline import files
from pipeline.languages import BY_NLLB, ENGLISH, find_language
from pipeline.shards import image_key
from training.order import is_held_out
from training.report import log_to_stderr

log = logging.getLogger("evaluation.standin")

SAMPLE = in_repository("demo/sample")
MARKER = "STAND-IN.txt"
"""A file in the data folder, by which a report knows that its texts and images are not the benchmarks' own."""
Names = dict[str, dict[str, str]]
"""Emoji → NLLB code → name."""
Texts = Mapping[str, str]
"""Emoji → its name in one language."""
Pictures = Mapping[str, Path]
"""Emoji → its JPEG."""


def read_names(sample: Path = SAMPLE) -> Names:
    """Names of the emoji that have an image in the sample."""
    names: Names = files.read_json(sample / "emoji_names.json")
    return {emoji: of for emoji, of in names.items() if image_of(emoji, sample).is_file()}


def image_of(emoji: str, sample: Path = SAMPLE) -> Path:
    points = "-".join(f"{ord(x):x}" for x in emoji if x != "\ufe0f")
    return sample / "images" / "emoji" / f"emoji-{points}.png"


def held_out_names(names: Names, fraction: float, sample: Path = SAMPLE) -> Names:
    """Those whose image a run with `--held-out fraction` did not train on: its content decides, by the key that it has in the shards."""
    return {
        emoji: of
        for emoji, of in names.items()
        if is_held_out(image_key(files.sha256_file(image_of(emoji, sample))), fraction)
    }


def owner_code(benchmark: str, nllb: str) -> str:
    """The benchmark's own code of a language it has, else the table's."""
    for code in facts()[benchmark]["languages"]:
        try:
            if find_language(code).nllb == nllb:
                return code
        except ValueError:
            continue
    return BY_NLLB[nllb].code


def write(
    out: Path, names: Names, languages: Sequence[str], only: Sequence[str] | None = None, sample: Path = SAMPLE
) -> dict[str, list[str]]:
    """Write the benchmarks `only` (by default all eight) under `out`; returns benchmark → the codes that were written.

    `languages`: NLLB codes. Needs two emoji at least. Every picture is one file, linked to wherever a benchmark wants it. A text that is the
    same for two emoji in a language (both "face") makes no false statement of one about the other.
    """
    emoji = sorted(names)
    if len(emoji) < 2:
        raise ValueError(
            f"{len(emoji)} images are too few for a stand-in: hold out more (training/realign.py --held-out)."
        )
    pictures = {}
    for i, x in enumerate(emoji):
        pictures[x] = out / "xm3600" / "images" / f"{i:016x}.jpg"
        files.write_bytes(pictures[x], _jpeg(image_of(x, sample)))
    codes: dict[str, list[str]] = {}
    captions: dict[str, dict[str, Any]] = {}
    for name in only if only is not None else WRITERS:
        codes[name] = []
        for nllb in languages:
            texts = {x: names[x][nllb] for x in emoji if names[x].get(nllb)}
            if len(texts) >= 2 and (name not in ENGLISH_ONLY or nllb == ENGLISH):
                codes[name].append(owner_code(name, nllb))
                WRITERS[name](out, codes[name][-1], texts, pictures)
                if name == "xm3600":  # all languages are in one file
                    add_captions(captions, codes[name][-1], texts, pictures)
    files.write_text(
        out / MARKER, "Made of Polyalign's embedded sample by evaluation/standin.py: no benchmark's own data.\n"
    )
    if captions:
        _jsonl(out / "xm3600" / "captions.jsonl", [captions[key] for key in sorted(captions)])
    return codes


def _with_another(texts: Texts) -> list[tuple[str, str, bool]]:
    """(emoji, emoji whose name is said, whether it is true): every emoji with its own name and with that of the next one called otherwise."""
    emoji = list(texts)
    said = [(x, x, True) for x in emoji]
    return said + [(x, y, False) for x in emoji if (y := _unlike(x, emoji, texts))]


def _xgqa(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    iglue = out / "iglue" / "datasets"
    questions = {}
    for number, (x, y, true) in enumerate(_with_another(texts)):
        _link(pictures[x], iglue / "gqa" / "images" / f"n{pictures[x].name}")
        image = f"n{pictures[x].stem}"
        questions[str(number)] = {"imageId": image, "question": f"{texts[y]}?", "answer": "yes" if true else "no"}
    files.write_json(iglue / "xGQA" / "annotations" / "few_shot" / code / "test.json", questions)


def _xvnli(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    iglue = out / "iglue" / "datasets"
    rows = []
    for number, (x, y, true) in enumerate(_with_another(texts)):
        _link(pictures[x], iglue / "flickr30k" / "flickr_images" / pictures[x].name)
        label = "entailment" if true else "contradiction"
        caption = f"{pictures[x].name}#0"
        rows.append({"gold_label": label, "sentence1": "-", "sentence2": texts[y], "captionID": caption, "pairID": f"{caption}r{number}",
                     "Flikr30kID": pictures[x].stem})  # fmt: skip
    _jsonl(iglue / "XVNLI" / "annotations" / code / "test.jsonl", rows)


def _marvl(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    """Left and right are named in their order, or the other way round."""
    marvl = out / "iglue" / "datasets" / "marvl"
    rows: list[dict[str, Any]] = []
    for x, y, true in _with_another(texts):
        if true:
            continue
        for image in (x, y):
            _link(pictures[image], marvl / "images" / code / "images" / "1-Emoji" / pictures[image].name)
        for label, said in ((True, f"{texts[x]}, {texts[y]}"), (False, f"{texts[y]}, {texts[x]}")):
            rows.append({"concept": "1-Emoji", "language": code, "caption": said, "left_img": pictures[x].name,
                         "right_img": pictures[y].name, "annotator_info": {}, "chapter": "Emoji", "id": f"{code}-{len(rows)}",
                         "label": label})  # fmt: skip
    _jsonl(marvl / "zero_shot" / "annotations" / f"marvl-{code}.jsonl", rows)


def _xflickrco(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    iglue = out / "iglue" / "datasets"
    for x in texts:
        _link(pictures[x], iglue / "flickr30k" / "flickr_images" / pictures[x].name)
    rows = [{"sentences": [text], "id": pictures[x].stem, "img_path": pictures[x].name} for x, text in texts.items()]
    _jsonl(iglue / "xFlickrCO" / "annotations" / code / "test.jsonl", rows)


def add_captions(rows: dict[str, dict[str, Any]], code: str, texts: Texts, pictures: Pictures) -> None:
    """One language's captions into the rows of captions.jsonl, by image."""
    for x, text in texts.items():
        row = rows.setdefault(pictures[x].stem, {"image/key": pictures[x].stem, "image/locale": "en"})
        row[code] = {"caption": [text], "caption/tokenized": [text], "caption/tokenized/lowercase": [text.lower()]}


def _maxm(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    annotations = []
    for number, (x, text) in enumerate(texts.items()):
        pair = {
            "question_id": f"{code}{number}",
            "question": f"{x}?",
            "answers": [text],
            "processed_answers": [text],
            "is_collection": False,
        }
        annotations.append({"image_id": pictures[x].stem, "image_url": "", "qa_pairs": [pair]})
    content = {"dataset": "maxm", "version": "standin", "split": code, "annotations": annotations}
    files.write_json(out / "maxm" / "maxm_v1_release" / f"maxm_v1_{code}.json", content)


def _pope(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    for setting in SETTINGS:
        rows = []
        for number, (x, y, true) in enumerate(_with_another(texts), start=1):
            image = f"COCO_val2014_{pictures[x].name}"
            _link(pictures[x], out / "pope" / "val2014" / image)
            rows.append({"question_id": number, "image": image, "text": f"Is there a {texts[y]} in the image?",
                         "label": "yes" if true else "no"})  # fmt: skip
        _jsonl(out / "pope" / "output" / "coco" / f"coco_pope_{setting}.json", rows)


def _chair(out: Path, code: str, texts: Texts, pictures: Pictures) -> None:
    """The first word of a name stands for a class of objects."""
    rows = []
    for x, text in texts.items():
        image = f"COCO_val2014_{pictures[x].name}"
        _link(pictures[x], out / "chair" / "val2014" / image)
        rows.append({"image": image, "objects": [text.split()[0]]})
    _jsonl(out / "chair" / "segmentation" / "coco_ground_truth_segmentation.json", rows)
    files.write_text(out / "chair" / "synonyms.txt", "\n".join(sorted({str(row["objects"][0]) for row in rows})) + "\n")


WRITERS: dict[str, Callable[[Path, str, Texts, Pictures], None]] = {
    "xgqa": _xgqa,
    "xvnli": _xvnli,
    "marvl": _marvl,
    "xflickrco": _xflickrco,
    "xm3600": lambda out, code, texts, pictures: None,  # written at the end, for all languages
    "maxm": _maxm,
    "pope": _pope,
    "chair": _chair,
}
ENGLISH_ONLY = frozenset({"pope", "chair"})


def _unlike(x: str, emoji: Sequence[str], texts: Texts) -> str:
    """The next emoji that is called something else; "" where there is none."""
    i = emoji.index(x)
    for y in (*emoji[i + 1 :], *emoji[:i]):
        if texts[y].casefold() != texts[x].casefold():
            return y
    return ""


def _link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    if target.exists() and target.samefile(source):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    files.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _jpeg(path: Path) -> bytes:
    """The picture on white, as a JPEG: the benchmarks' images are JPEGs."""
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    buffer = io.BytesIO()
    Image.alpha_composite(white, rgba).convert("RGB").save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def held_out_fraction(training: Path) -> float:
    """What a finished training run kept from training. Raises FileNotFoundError when it is not finished."""
    return float(files.read_json(training / "result.json")["config"].get("held_out", 0.0))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--languages", nargs="+", metavar="CODE", help="default: all that have names")
    parser.add_argument(
        "--held-out-of", type=Path, metavar="RUN", help="only images that this training run has not seen"
    )
    args = parser.parse_args(argv)
    log_to_stderr()
    try:
        names = read_names()
        if args.held_out_of:
            names = held_out_names(names, held_out_fraction(args.held_out_of))
        have = {code for of in names.values() for code in of}
        languages = (
            [find_language(x).nllb for x in args.languages] if args.languages else [x for x in BY_NLLB if x in have]
        )
        codes = write(args.out, names, languages)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    log.info("%d images, %d languages in %s", len(names), len(codes["xm3600"]), args.out)


if __name__ == "__main__":
    main()
