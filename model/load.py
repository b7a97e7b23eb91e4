"""A model that is ready to use, out of a training run or out of a Hugging Face folder. Evaluation, chat and export all load through here.

A run of `training/realign.py` holds what it trained and names its base: LoRA in `adapter/` and, beside it, the aligned parts (Q-Former, query
tokens, projection). Merged, they are one model of the BLIP-2 class.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from model import assemble
from model.adapt import CONFIG_FILE, load_lora
from model.parts import from_parts, set_aligned
from model.quantise import quantise
from pipeline.files import read_json, sha256_file


class ModelError(ValueError):
    """A folder that is no model; the message says what it lacks."""


@dataclass(frozen=True)
class LoadedModel:
    """A model and what belongs to it."""

    model: Any
    """A `Blip2ForConditionalGeneration` in evaluation mode, whose own annotations are too loose to check against."""
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    """Of the weights that were trained: the same model gives the same."""
    adapter: PeftModel | None = None
    """PEFT's wrapper where LoRA lies beside the weights; None where it is merged into them, or where there is none."""


def merge(loaded: LoadedModel) -> LoadedModel:
    """LoRA merged into the weights, in place, in their own precision."""
    if loaded.adapter is None:
        return loaded
    merged: Any = loaded.adapter
    return replace(loaded, model=merged.merge_and_unload(), adapter=None)


def run_folder(folder: Path) -> Path | None:
    """The training run that `folder` is, or has in `training/`; None when it is none."""
    for run in (folder / "training", folder):
        if (run / "adapter").is_dir():
            return run
    return None


def load_model(
    folder: Path, device: torch.device | None = None, merge_adapter: bool = True, quantisation: str = "none"
) -> LoadedModel:
    """The model of a training run (adapter/ and result.json, or their parent with training/), or of a Hugging Face folder of the BLIP-2 class.

    `device`: a GPU where there is one, by default. `merge_adapter=False` leaves a run's LoRA beside the weights, as it was trained; so does a
    `quantisation` of the language model (one of `model.quantise.MODES`). Raises ModelError, ValueError or OSError that say what is missing.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = run_folder(folder)
    adapter: PeftModel | None = None
    if run is not None:
        model, adapter, tokenizer = _load_run(run, device, quantisation)
        weights = sorted((run / "adapter").glob("*.safetensors"))
    elif (folder / "config.json").is_file():
        tokenizer = assemble.load_tokenizer(folder)
        model = assemble.load(folder, tokenizer)
        quantise(model, quantisation, device)
        weights = sorted(folder.glob("*.safetensors"))
    else:
        raise ModelError(
            f"{folder} is no model: it has neither adapter/ (a run of training/realign.py) nor config.json (a Hugging Face folder)."
        )
    digest = hashlib.sha256("".join(sha256_file(path) for path in weights).encode()).hexdigest()[:16]
    loaded = LoadedModel(model.eval().to(device), tokenizer, digest, adapter)
    return merge(loaded) if merge_adapter and quantisation == "none" else loaded


def base_of(run: Path) -> Path | None:
    """The folder of the base that a run was trained on; None when it was put together from parts.

    Raises ModelError when the folder is not there.
    """
    result = read_result(run)
    if "base" not in result:
        return None
    named = Path(result["base"])
    for base in (named, run / "base"):  # the second where the run's folder was moved with its base
        if base.is_dir():
            return base
    raise ModelError(f"The base {named} that {run / 'result.json'} names is not there; put it into {run / 'base'}.")


def load_base(run: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model, tokenizer) that a run started from. `dtype` is for parts, which are never quantised here; a base folder has its own."""
    base, result = base_of(run), read_result(run)
    if base is None:
        return from_parts(**{**result["parts"], "quantisation": "none"}, dtype=dtype)
    tokenizer = assemble.load_tokenizer(Path(result.get("config", {}).get("tokenizer") or base))
    return assemble.load(base, tokenizer), tokenizer


def read_result(run: Path) -> dict[str, Any]:
    """What a finished run says of itself. Raises ModelError when it is not finished."""
    for path in (run / "result.json", run / "adapter" / "aligned_parts.safetensors"):
        if not path.is_file():
            raise ModelError(
                f"{path} is not there: the training run is not finished. Go on with `training/realign.py … --resume`."
            )
    return read_json(run / "result.json")


def _load_run(
    run: Path, device: torch.device, quantisation: str
) -> tuple[Any, PeftModel | None, PreTrainedTokenizerBase]:
    """The base with the aligned parts put into it, PEFT's wrapper of it where the run trained LoRA, and the tokenizer."""
    model, tokenizer = load_base(run)
    set_aligned(model, run / "adapter")
    quantise(model, quantisation, device)
    has_lora = (run / "adapter" / CONFIG_FILE).is_file()  # a warm-up stage has the aligned parts alone
    return model, load_lora(model, run / "adapter") if has_lora else None, tokenizer
