"""RefCLIPScore (Hessel et al. 2021), only when a CLIP model is given: nothing here can be downloaded.

CLIPScore is 2.5 · max(cos(image, caption), 0), RefCLIPScore its harmonic mean with the largest cosine between caption and a reference, 0 below 0.
For languages other than English the model must be multilingual, or the figure says nothing.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

WEIGHT = 2.5


def ref_clip_score(
    image: NDArray[np.float64], caption: NDArray[np.float64], references: NDArray[np.float64]
) -> tuple[float, float]:
    """(CLIPScore, RefCLIPScore) × 100 from vectors: (width,), (width,) and (references, width); of any length."""

    def unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    clip = WEIGHT * max(float(unit(image) @ unit(caption)), 0.0)
    reference = max(float((unit(references) @ unit(caption)).max()), 0.0)
    harmonic = 2 * clip * reference / (clip + reference) if clip + reference > 0 else 0.0
    return 100 * clip, 100 * harmonic


@torch.no_grad()
def score(
    folder: Path, images: Sequence[Path], captions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Means over items, with the CLIP model in `folder` (Hugging Face layout)."""
    from transformers import AutoModel, AutoProcessor

    model, processor = (
        AutoModel.from_pretrained(folder, use_safetensors=True).eval(),
        AutoProcessor.from_pretrained(folder),
    )

    def text(words: Sequence[str]) -> NDArray[np.float64]:
        batch = processor(text=list(words), return_tensors="pt", padding=True, truncation=True)
        return np.asarray(_tensor(model.get_text_features(**batch)), float)

    pairs = []
    for path, caption, refs in zip(images, captions, references, strict=True):
        with Image.open(path) as opened:
            pixels = processor(images=ImageOps.exif_transpose(opened).convert("RGB"), return_tensors="pt")
        vector = np.asarray(_tensor(model.get_image_features(**pixels)), float)[0]
        pairs.append(ref_clip_score(vector, text([caption])[0], text(refs)))
    return {
        "clip_score": float(np.mean([x for x, _ in pairs])),
        "ref_clip_score": float(np.mean([x for _, x in pairs])),
    }


def _tensor(output: object) -> torch.Tensor:
    """transformers 5 wraps the vectors in an output object, 4 gave them bare."""
    return output if isinstance(output, torch.Tensor) else output.pooler_output  # type: ignore[attr-defined]
