"""Rebuild everything in the embedded sample that comes from packages: all images, emoji.jsonl and easy_vqa.jsonl.

    pip install --target /tmp/packages --no-deps scikit-image==0.26.0 easy-vqa==1.0
    npm install --prefix /tmp/packages cldr-annotations-full@48.2.0
    apt-get install fonts-noto-color-emoji                             # 2.042
    python demo/sample/build.py --skimage /tmp/packages/skimage --easy-vqa /tmp/packages/easy_vqa \
        --cldr /tmp/packages/node_modules/cldr-annotations-full

With these versions and Pillow 13.0.0 it writes the same bytes again. What is chosen is chosen by a hash of its content,
never by its position, so a longer emoji.txt leaves the old images, ids and captions as they are. photos.jsonl was
written by hand, looking at the pictures; this script only makes its images. Licences: LICENSES/README.md.
"""

import argparse
import hashlib
import json
import logging
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
NOTO_SIZE = 109  # the only size that the font's bitmaps have
EMOJI_PIXELS = 144  # the bitmaps are 136 x 128
PHOTO_PIXELS = 384  # longest side
PHOTO_QUALITY = 88

# Photographs that the wheel itself holds and of which scikit-image says: CC0, public domain or no known restrictions.
PHOTOS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "clock": "clock_motion.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "hubble": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "text": "text.png",
}

COLORS = {"black", "blue", "brown", "gray", "green", "red", "teal", "yellow"}
SHAPES = {"circle", "rectangle", "triangle"}
IMAGES_PER_KIND = 2  # for each of the 24 pairs of colour and shape

# Pictures of the first are rightly called the second too, so the second is no false name for them.
ALSO_TRUE = {
    *((name, "bird") for name in ("chicken", "duck", "eagle", "owl", "penguin", "rooster")),
    *((name, "automobile") for name in ("ambulance", "taxi")),
    ("rooster", "chicken"),
    ("rabbit", "rabbit face"),
    ("rabbit face", "rabbit"),
    ("sailboat", "ship"),
    ("sun", "star"),
    ("teacup without handle", "hot beverage"),
    ("volcano", "mountain"),
}

Example = dict[str, str]

log = logging.getLogger("build")


def digest(*parts: object) -> str:
    """Hex SHA-256 of the parts: the order in which things are chosen, so that a choice depends on content only."""
    return hashlib.sha256("\x1f".join(map(str, parts)).encode()).hexdigest()


def build_photos(skimage: Path, out: Path) -> None:
    """Write images/photos/*.jpg: at most PHOTO_PIXELS on the longest side, no metadata, gray ones stay gray."""
    folder = fresh(out / "images" / "photos")
    for name, file in PHOTOS.items():
        with Image.open(skimage / "data" / file) as original:
            photo = original.convert("L" if original.mode == "L" else "RGB")
        photo.thumbnail((PHOTO_PIXELS, PHOTO_PIXELS), Image.Resampling.LANCZOS)
        bare = Image.frombytes(photo.mode, photo.size, photo.tobytes())
        bare.save(folder / f"{name}.jpg", quality=PHOTO_QUALITY, optimize=True)


def build_emoji(cldr: Path, font_file: Path, out: Path) -> Iterator[Example]:
    """Draw every emoji of emoji.txt on white; its CLDR name is the caption and it gets one true and one false match.

    The false name comes from the same line of emoji.txt, and every name of a line is the false one exactly once:
    neither the picture alone nor the caption alone tells the label.
    """
    entries = json.loads((cldr / "annotations/en/annotations.json").read_text("utf-8"))["annotations"]["annotations"]
    font = ImageFont.truetype(str(font_file), NOTO_SIZE)
    folder = fresh(out / "images" / "emoji")
    for line in (HERE / "emoji.txt").read_text("utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        names = {emoji: entries[emoji]["tts"][0] for emoji in line.strip()}
        false_names = next_in_ring(names.values())
        for emoji, name in names.items():
            stem = f"emoji-{ord(emoji):x}"
            draw(emoji, font).save(folder / f"{stem}.png", optimize=True)
            common = {"image": f"images/emoji/{stem}.png"}
            terms = {"licence": "OFL-1.1 AND Unicode-3.0", "credit": "Noto Color Emoji, Google; name from Unicode CLDR"}
            yield {"id": f"{stem}-caption", **common, "task": "captioning", "caption": name, **terms}
            for label, caption in (("yes", name), ("no", false_names[name])):
                example = {"id": f"{stem}-matching-{label}", **common, "task": "matching", "caption": caption}
                yield {**example, "label": label, **terms}


def next_in_ring(names: Iterable[str]) -> dict[str, str]:
    """Put names on a ring by their hash; each one's value is the next one, or as far on as keeps all of them false."""
    ring = sorted(names, key=digest)
    for step in range(1, len(ring)):
        pairs = dict(zip(ring, ring[step:] + ring[:step], strict=True))
        if not ALSO_TRUE & pairs.items():
            return pairs
    raise ValueError(f"no shift gives every one of these a false name: {', '.join(ring)}; split the line in emoji.txt")


def draw(emoji: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """One emoji in the middle of a white square, RGB."""
    canvas = Image.new("RGB", (EMOJI_PIXELS, EMOJI_PIXELS), "white")
    pen = ImageDraw.Draw(canvas)
    left, top, right, bottom = pen.textbbox((0, 0), emoji, font=font, embedded_color=True)
    corner = ((EMOJI_PIXELS - right - left) // 2, (EMOJI_PIXELS - bottom - top) // 2)
    pen.text(corner, emoji, font=font, embedded_color=True)
    return canvas


def build_easy_vqa(easy_vqa: Path, out: Path) -> Iterator[Example]:
    """Copy IMAGES_PER_KIND images of each colour and shape, with an open question, a "yes" and a "no" each.

    The open question asks for the colour on one image of a kind and for the shape on the other; the first image's
    question about the shape is a question generation example.
    """
    train = easy_vqa / "data" / "train"
    asked: dict[int, dict[str, str]] = defaultdict(dict)
    for question, answer, image in json.loads((train / "questions.json").read_text("utf-8")):
        asked[image][question] = answer
    kinds: dict[tuple[str, str], list[int]] = defaultdict(list)
    for image, pairs in asked.items():
        answers = set(pairs.values())
        if answers >= {"yes", "no"} and answers & COLORS and answers & SHAPES:
            kinds[(answers & COLORS).pop(), (answers & SHAPES).pop()].append(image)

    folder = fresh(out / "images" / "easy_vqa")
    for kind in sorted(kinds):
        for place, image in enumerate(sorted(kinds[kind], key=digest)[:IMAGES_PER_KIND]):
            shutil.copyfile(train / "images" / f"{image}.png", folder / f"train-{image}.png")
            wanted = [("vqa", {"yes"}), ("vqa", {"no"}), ("vqa", SHAPES if place else COLORS)]
            if place == 0:
                wanted.append(("question_generation", SHAPES))
            for task, answers in wanted:
                questions = [question for question, answer in asked[image].items() if answer in answers]
                question = min(questions, key=lambda text: digest(image, text))
                yield {
                    "id": f"easy-vqa-train-{image}-{task}-{digest(question)[:8]}",
                    "image": f"images/easy_vqa/train-{image}.png",
                    "task": task,
                    "question": question,
                    "answer": asked[image][question],
                    "licence": "MIT",
                    "credit": "easy-VQA, Victor Zhou",
                }


def fresh(folder: Path) -> Path:
    """An empty folder, so that no image of an earlier build stays behind."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write_jsonl(file: Path, examples: Iterable[Example]) -> None:
    lines = [json.dumps(example, ensure_ascii=False) + "\n" for example in examples]
    file.write_text("".join(lines), "utf-8", newline="\n")
    log.info("%s: %d examples", file, len(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--skimage", type=Path, required=True, help="folder of the package skimage")
    parser.add_argument("--easy-vqa", type=Path, required=True, help="folder of the package easy_vqa")
    parser.add_argument("--cldr", type=Path, required=True, help="folder of the package cldr-annotations-full")
    parser.add_argument("--font", type=Path, default=NOTO, help="NotoColorEmoji.ttf (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="where to write (default: beside this script)")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    build_photos(options.skimage, options.out)
    write_jsonl(options.out / "emoji.jsonl", build_emoji(options.cldr, options.font, options.out))
    write_jsonl(options.out / "easy_vqa.jsonl", build_easy_vqa(options.easy_vqa, options.out))


if __name__ == "__main__":
    main()
