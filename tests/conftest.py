"""Fixtures that several folders share: the embedded sample and model, and a small mix made of them."""

from pathlib import Path

import pytest
import yaml

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
