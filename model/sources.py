"""Where weights come from: a local folder or a Hugging Face hub id, and only those tensors of it that are needed.

A BLIP-2 checkpoint is two thirds language model, which re-alignment replaces. `model.safetensors.index.json` says which file holds which
tensor, so of a hub id only the files with needed tensors are downloaded, and of a file only the needed tensors are read. Nothing unpickles:
a checkpoint that has only `pytorch_model.bin` is refused with the remedy. A folder never causes a network access.
"""

import json
import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

log = logging.getLogger(__name__)

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ["tokenizer*", "*.model", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"]


def locate(source: str | Path, needed: Collection[str] | None = None) -> Path:
    """The folder of `source`, which is a folder already or a hub id, fetched into the Hugging Face cache.

    `needed`: beginnings of the names of the tensors that will be read (`vision_model.`); None fetches the whole model. Raises
    FileNotFoundError with the remedy when it is neither a folder nor to be had from the hub.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    try:
        patterns = ["config.json", "generation_config.json", "preprocessor_config.json", INDEX, *TOKENIZER_FILES]
        folder = Path(snapshot_download(str(source), allow_patterns=patterns))
        files = sorted(set(weight_files(folder, needed).values())) if (folder / INDEX).is_file() else [SINGLE]
        log.info("fetching %s of %s", ", ".join(files), source)
        return Path(snapshot_download(str(source), allow_patterns=files))
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise FileNotFoundError(
            f"{source} is not a folder here, and as a hub id it could not be fetched ({reason}). "
            f"Fetch it where there is a network with `hf download {source} --local-dir FOLDER`, and give that folder."
        ) from error


def read_config(folder: Path) -> dict:
    """config.json of `folder` as it is written there. Raises FileNotFoundError when it is no model folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not a model folder: it has no config.json. Give the folder that holds it, or a hub id."
        )
    return json.loads(path.read_text())


def weight_files(folder: Path, needed: Collection[str] | None = None) -> dict[str, str]:
    """Tensor name → file of `folder` that holds it, for tensors whose names begin with one of `needed` (None: all).

    Raises FileNotFoundError with the remedy when `folder` has no safetensors weights.
    """
    if (folder / INDEX).is_file():
        files = json.loads((folder / INDEX).read_text())["weight_map"]
    elif (folder / SINGLE).is_file():
        files = dict.fromkeys(_names(folder / SINGLE), SINGLE)
    elif list(folder.glob("*.bin")):
        raise FileNotFoundError(
            f"{folder} has its weights as pickles (*.bin), which can run code and are never loaded here. Take the revision of the checkpoint "
            "that has safetensors, or convert it with transformers' `save_pretrained` on a machine where you trust it."
        )
    else:
        raise FileNotFoundError(f"{folder} has no weights: it needs {SINGLE}, or {INDEX} and the files that it names.")
    if needed is None:
        return files
    return {name: file for name, file in files.items() if name.startswith(tuple(needed))}


def read_tensors(folder: Path, needed: Collection[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of `folder` whose names begin with one of `needed`, in `dtype`, on the CPU; no other tensor is read.

    Raises FileNotFoundError when a file that the index names is missing, ValueError when one is damaged.
    """
    by_file: dict[str, list[str]] = {}
    for name, file in weight_files(folder, needed).items():
        by_file.setdefault(file, []).append(name)
    tensors = {}
    for file, names in sorted(by_file.items()):
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"{folder / file} is missing, which {INDEX} names for {len(names)} needed tensors ({names[0]} …): "
                "the checkpoint was copied in part; copy or download it again."
            )
        try:
            with safe_open(folder / file, framework="pt") as opened:
                for name in names:
                    tensors[name] = opened.get_tensor(name).to(dtype)
        except SafetensorError as error:
            raise ValueError(f"{folder / file} can't be read ({error}): copy or download it again.") from error
    return tensors


def _names(file: Path) -> list[str]:
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise ValueError(f"{file} can't be read ({error}): copy or download it again.") from error


OUTPUT_MATRICES = ("lm_head.weight", "embed_out.weight")
INPUT_MATRICES = ("shared.weight", "embed_tokens.weight", "word_embeddings.weight", "wte.weight")


def output_matrix_is_tied(folder: Path, prefix: str = "") -> bool | None:
    """Whether the language model in `folder` has one matrix for input embeddings and output, by its weights and not by its configuration.

    Two different matrices are untied whatever config.json and transformers' classes say (mT5's class ties by force, mT0 is untied); one matrix
    alone is tied; None where both are there and equal, so that either is right. `prefix`: what its tensors' names begin with.
    """
    files = weight_files(folder, [prefix])
    outputs = [name for name in files if name.endswith(OUTPUT_MATRICES)]
    inputs = [name for name in files if name.endswith(INPUT_MATRICES)]
    if not outputs or not inputs:
        return True
    output, input = _opened(folder, files, outputs[0]), _opened(folder, files, inputs[0])
    if output.get_shape() != input.get_shape():
        return False
    for start in range(0, output.get_shape()[0], 8192):
        if not torch.equal(output[start : start + 8192], input[start : start + 8192]):
            return False
    return None


def first_rows(folder: Path, endings: tuple[str, ...], rows: int, prefix: str = "") -> Tensor | None:
    """The first `rows` rows of the first tensor of `folder` whose name ends with one of `endings`; None when there is none."""
    files = weight_files(folder, [prefix])
    names = [name for name in files if name.endswith(endings)]
    return _opened(folder, files, names[0])[:rows] if names else None


def _opened(folder: Path, files: dict[str, str], name: str) -> Any:
    """Tensor `name` of `folder`, of which nothing is read until it is sliced."""
    try:
        return safe_open(folder / files[name], framework="pt").get_slice(name)
    except (SafetensorError, FileNotFoundError) as error:
        raise FileNotFoundError(f"{folder / files[name]} is missing or damaged: copy or download it again.") from error
