"""Write the trained weights as what the pipeline loads: a Hugging Face checkpoint in float16 and an int8 CTranslate2 model.

Both folders carry the tokenizer, so each is complete by itself. They are written aside and renamed.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from ctranslate2.converters import TransformersConverter
from transformers import AutoTokenizer

from demo.translation_model.train import load_weights, new_model

TOKENIZER_FILES = ("sentencepiece.bpe.model", "tokenizer.json", "tokenizer_config.json")


def export(weights: Path, tokenizer: Path, out: Path) -> None:
    """Write `out/hf` and `out/ct2-int8`, in place of what is there."""
    model = new_model(len(AutoTokenizer.from_pretrained(tokenizer)))
    load_weights(model, weights)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".aside-") as aside:
        scratch = Path(aside)
        for folder in ("float32", "hf"):
            (model.half() if folder == "hf" else model).save_pretrained(scratch / folder)
            for name in TOKENIZER_FILES:
                shutil.copy(tokenizer / name, scratch / folder)
        converter = TransformersConverter(str(scratch / "float32"), copy_files=list(TOKENIZER_FILES))
        converter.convert(str(scratch / "ct2-int8"), quantization="int8")
        for folder in ("hf", "ct2-int8"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (scratch / folder).rename(out / folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="the model.safetensors that train.py wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="the folder that vocabulary.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.weights, arguments.tokenizer, arguments.out)


if __name__ == "__main__":
    main()
