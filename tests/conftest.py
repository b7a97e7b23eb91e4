"""Fixtures that several folders share: the embedded sample and model, and a small mix made of them."""

import os
import sys
from pathlib import Path

import pytest
import yaml

from pipeline import files

ROOT = Path(__file__).resolve().parent.parent
DEMO_MODEL = ROOT / "demo" / "translation_model" / "ct2-int8"


@pytest.fixture(scope="session")
def demo_model() -> Path:
    return DEMO_MODEL


@pytest.fixture
def write_mix(tmp_path: Path):
    """A function that writes a small mix of the embedded sample; keyword arguments replace sections. Returns the file's path."""

    def write(name: str = "mix.yaml", **sections: object) -> Path:
        sample = ROOT / "demo" / "sample"
        mix = {
            "name": "small",
            "sources": [
                {"name": "photos", "path": str(sample / "photos.jsonl"), "limit": 20},
                {"name": "emoji", "path": str(sample / "emoji.jsonl"), "limit": 30},
                {"name": "easy_vqa", "path": str(sample / "easy_vqa.jsonl"), "limit": 15},
            ],
            "languages": {
                "include": ["de", "ar", "hi", "zh", "sw", "xh", "ru", "th"],
                "per_example": 3,
                "floor": 25,
                "english": 0.3,
            },
            "translation": {"model": str(DEMO_MODEL), "licence": "Apache-2.0", "block_sentences": 20},
            "shards": {"count": 3},
            "memory": "memory",
        }
        mix.update(sections)
        path = tmp_path / name
        path.write_text(yaml.safe_dump(mix, allow_unicode=True), encoding="utf-8")
        return path

    return write


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch):
    """A function: from now on, what is written aside to a name that contains `part` meets a full disk (a real one: /dev/full)."""

    def fill(part: str) -> None:
        real = files.secrets.token_hex

        def link(size: int) -> str:
            name = real(size)
            frame = sys._getframe(1)
            path: Path = frame.f_locals["path"]
            if part in str(path):
                temporary = path.parent / f".{path.name}.{os.getpid()}.{name}{files.TEMPORARY_SUFFIX}"
                temporary.symlink_to("/dev/full")
            return name

        monkeypatch.setattr(files.secrets, "token_hex", link)

    return fill
