"""Small files in the exact forms in which the datasets are published, with pictures, laid out as `mixes/` expects them under `data/`.

The records are of our own making; keys, nesting and file names are those of the datasets' files (the readers' docstrings name them).
"""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

COCO_IDS = (9, 25, 30, 34, 36, 49, 61, 64, 71, 72)
THINGS = ("dog", "cat", "red bus", "wooden chair", "bicycle", "pizza", "green boat", "clock", "horse", "umbrella")
PLACES = ("on a beach", "in a kitchen", "near a tall tree", "in the snow", "beside an old house")
SYNSETS = (
    ("n01440764", "tench"),
    ("n01443537", "goldfish"),
    ("n01484850", "great_white_shark"),
    ("n02123045", "tabby"),
)


def picture(seed: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """A JPEG that is different for each seed, to the eye too."""
    image = Image.new("RGB", size, ((seed * 67) % 256, (seed * 131) % 256, (seed * 29) % 256))
    draw = ImageDraw.Draw(image)
    for k in range(6):
        x, y = (seed * 17 + k * 23) % size[0], (seed * 31 + k * 11) % size[1]
        draw.rectangle(
            (x, y, x + 8 + seed % 7, y + 5 + k), fill=((k * 40 + seed * 53) % 256, (seed * 7) % 256, (k * 90) % 256)
        )
    data = io.BytesIO()
    image.save(data, "JPEG", quality=90)
    return data.getvalue()


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    return path


def coco_images(data: Path) -> None:
    for number in COCO_IDS:
        write(data / "coco/train2014" / f"COCO_train2014_{number:012d}.jpg", picture(number))
        write(data / "coco/train2017" / f"{number:012d}.jpg", picture(number))
    write(data / "coco/val2014/COCO_val2014_000000391895.jpg", picture(391895))


def karpathy() -> dict:
    images = []
    for i, number in enumerate(COCO_IDS):
        raw = [f"A {THINGS[(i + k) % 10]} {PLACES[k]}. " for k in range(5)]
        sentences = [
            {"tokens": r.lower().strip(" .").split(), "raw": r, "imgid": i, "sentid": 1000 + 5 * i + k}
            for k, r in enumerate(raw)
        ]
        image = {
            "filepath": "train2014",
            "sentids": [s["sentid"] for s in sentences],
            "filename": f"COCO_train2014_{number:012d}.jpg",
            "imgid": i,
            "split": "train",
            "sentences": sentences,
            "cocoid": number,
        }
        images.append(image)
    test = {
        "filepath": "val2014",
        "filename": "COCO_val2014_000000391895.jpg",
        "imgid": 99,
        "split": "test",
        "cocoid": 391895,
    }
    sentence = {
        "tokens": ["a", "man"],
        "raw": "A man with a red helmet on a small moped. ",
        "imgid": 99,
        "sentid": 770337,
    }
    return {"images": [*images, {**test, "sentids": [770337], "sentences": [sentence]}], "dataset": "coco"}


def coco_captions() -> dict:
    images = [
        {
            "license": 1 + i % 2,
            "file_name": f"COCO_train2014_{number:012d}.jpg",
            "coco_url": f"http://images.cocodataset.org/train2014/COCO_train2014_{number:012d}.jpg",
            "height": 48,
            "width": 64,
            "date_captured": "2013-11-14 16:28:13",
            "flickr_url": "http://farm4.staticflickr.com/3153/2970773875_164f0c0b83_z.jpg",
            "id": number,
        }
        for i, number in enumerate(COCO_IDS)
    ]
    licences = [
        {"url": "http://creativecommons.org/licenses/by/2.0/", "id": 1, "name": "Attribution License"},
        {"url": "http://flickr.com/commons/usage/", "id": 2, "name": "No known copyright restrictions"},
    ]
    annotations = [
        {"image_id": number, "id": 48 + i, "caption": f"A {THINGS[i]} {PLACES[i % 5]}"}
        for i, number in enumerate(COCO_IDS)
    ]
    return {
        "info": {"year": 2014, "version": "1.0"},
        "images": images,
        "licenses": licences,
        "annotations": annotations,
    }


def llava_detail() -> list:
    return [
        {
            "id": f"{number:012d}",
            "image": f"{number:012d}.jpg",
            "conversations": [
                {"from": "human", "value": "Write a detailed description of the given image.\n<image>"},
                {
                    "from": "gpt",
                    "value": f"The image shows a {THINGS[i]} {PLACES[i % 5]}. It is bright.\n\nA person looks at it.",
                },
            ],
        }
        for i, number in enumerate(COCO_IDS[:4])
    ]


def llava_conversation() -> list:
    return [
        {
            "id": f"{number:012d}",
            "image": f"{number:012d}.jpg",
            "conversations": [
                {"from": "human", "value": "What is in the image?\n<image>"},
                {"from": "gpt", "value": f"A {THINGS[i]} is in the image."},
                {"from": "human", "value": "Where is it?"},
                {"from": "gpt", "value": f"It is {PLACES[i % 5]}. One. Two. Three. Four."},
            ],
        }
        for i, number in enumerate(COCO_IDS[:4])
    ]


def llava_665k() -> list:
    coco, ocr, text = llava_conversation()[0], llava_conversation()[1], llava_conversation()[2]
    coco["image"] = f"coco/train2017/{coco['image']}"
    again = {
        **coco,
        "conversations": [{"from": "human", "value": "<image>\nIs it day?"}, {"from": "gpt", "value": "Yes"}],
    }
    ocr |= {"id": "ocr/1", "image": f"coco/train2017/{COCO_IDS[5]:012d}.jpg"}
    text.pop("image")
    return [coco, again, ocr, {**text, "id": "wgByO4Y_0", "model": ""}]


def vqa() -> tuple[dict, dict]:
    questions = [
        {"image_id": number, "question": f"What is {PLACES[i % 5]}?", "question_id": number * 1000 + i}
        for i, number in enumerate(COCO_IDS)
    ]
    annotations = [
        {
            "question_type": "what is",
            "multiple_choice_answer": THINGS[i],
            "answers": [{"answer": THINGS[i], "answer_confidence": "yes", "answer_id": a + 1} for a in range(10)],
            "image_id": number,
            "answer_type": "other",
            "question_id": number * 1000 + i,
        }
        for i, number in enumerate(COCO_IDS)
    ]
    head = {"info": {"year": 2017, "version": "2.0"}, "license": {"url": "http://creativecommons.org/licenses/by/4.0/"}}
    first = {
        **head,
        "task_type": "Open-Ended",
        "data_type": "mscoco",
        "data_subtype": "train2014",
        "questions": questions,
    }
    return first, {**head, "data_subtype": "train2014", "annotations": annotations[::-1], "data_type": "mscoco"}


def aokvqa() -> list:
    return [
        {
            "split": "train",
            "image_id": number,
            "question_id": f"22MexNkBPpdZGX6sxbxV{i:02d}",
            "question": f"What is {PLACES[i % 5]}?",
            "choices": ["train", "delivery", THINGS[i], "cab"],
            "correct_choice_idx": 2,
            "direct_answers": [THINGS[i]] * 10,
            "difficult_direct_answer": False,
            "rationales": [
                f"One can see the {THINGS[i]} well.",
                f"The {THINGS[i]} is large.",
                "Nothing else is there.",
            ],
        }
        for i, number in enumerate(COCO_IDS[:5])
    ]


def capfilt(data: Path, count: int = 60) -> None:
    """The JSON of captions and URLs, and what img2dataset makes of it: two shards of tars with their Parquet files."""
    records = [
        {
            "caption": f"a {THINGS[i % 10]} {PLACES[i // 10 % 5]} with a {THINGS[(i % 10 + 3 + i // 10) % 10]}",
            "url": f"http://images.example/{i}.jpg",
        }
        for i in range(count)
    ]
    write(data / "capfilt/ccs_synthetic_filtered_large.json", records)
    folder = data / "capfilt/images"
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(2):
        rows = []
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for n, i in enumerate(range(shard, count, 2)):
                key = f"{shard:05d}{n:04d}"
                status = "failed_to_download" if i == 5 else "success"
                row = {**records[i], "key": key, "status": status, "error_message": None, "width": 64, "height": 48}
                rows.append(row)
                if status == "success":
                    members = (
                        ("jpg", picture(5000 + i)),
                        ("txt", records[i]["caption"].encode()),
                        ("json", json.dumps(row).encode()),
                    )
                    for extension, content in members:
                        info = tarfile.TarInfo(f"{key}.{extension}")
                        info.size = len(content)
                        tar.addfile(info, io.BytesIO(content))
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{shard:05d}.parquet")


def imagenet(data: Path, per_class: int = 4) -> None:
    for n, (synset, _) in enumerate(SYNSETS):
        for i in range(per_class):
            write(data / "imagenet/train" / synset / f"{synset}_{10026 + i}.JPEG", picture(7000 + 10 * n + i))
    write(data / "imagenet/imagenet_class_index.json", {str(i): list(s) for i, s in enumerate(SYNSETS)})
    labels = {
        "DE": [[0, 1, 2, 3], ["Schleie", "Goldfisch", "Weißer_Hai", "Getigerte Katze"]],
        "HE": [[1, 2], ["דג זהב", "Carcharodon carcharias"]],  # the second is in Latin letters
        "ZH": [[1, 3], ["金鱼", "虎斑猫"]],
        "EN": [[0, 1, 2, 3], ["Tinca tinca", "goldfish", "man-eating shark", "tabby"]],
        "BAT_SMG": [[1], ["auksa žovis"]],  # not one of our languages
    }
    write(data / "imagenet/babel_imagenet-298.json", labels)


def write_all(data: Path) -> Path:
    """Every dataset of the mixes, below `data`."""
    coco_images(data)
    write(data / "coco/dataset_coco.json", karpathy())
    write(data / "coco/annotations/captions_train2014.json", coco_captions())
    write(data / "llava/detail_23k.json", llava_detail())
    write(data / "llava/conversation_58k.json", llava_conversation())
    write(data / "llava/complex_reasoning_77k.json", llava_detail())
    write(data / "llava/llava_instruct_150k.json", llava_conversation() + llava_detail())
    write(data / "llava/llava_v1_5_mix665k.json", llava_665k())
    questions, annotations = vqa()
    write(data / "vqav2/v2_OpenEnded_mscoco_train2014_questions.json", questions)
    write(data / "vqav2/v2_mscoco_train2014_annotations.json", annotations)
    write(data / "aokvqa/aokvqa_v1p0_train.json", aokvqa())
    capfilt(data)
    imagenet(data)
    return data
