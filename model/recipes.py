"""Which parts make a model and with what numbers it is re-aligned: `recipes.json`, read into checked dataclasses.

The two real ones are mBLIP's (arXiv 2307.06930, section 3 and appendix): projection alone first, then Q-Former, query tokens, projection and
LoRA. What the paper leaves out (weight decay, clipping) is from its public code.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.quantise import MODES


@dataclass(frozen=True)
class Stage:
    """One stage of training."""

    rates: dict[str, float]
    """Part (as in `model.freeze.PARTS`) → its peak learning rate; what is not named is frozen."""
    batch_size: int
    """Texts a step."""
    warmup_steps: int
    steps: int | None = None
    epochs: float | None = None
    """Length, where `steps` is None."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the gradient."""


@dataclass(frozen=True)
class Lora:
    """LoRA on every linear layer of the language model; arguments of `model.adapt.add_lora`."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.05
    use_dora: bool = False
    use_rslora: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that a preset fixes."""

    eyes: str
    """Folder or hub id of the BLIP-2 checkpoint that the vision encoder, Q-Former and query tokens are read from."""
    language_model: str
    """Folder or hub id."""
    stages: dict[str, Stage]
    lora: Lora = field(default_factory=Lora)
    quantisation: str = "none"
    """Of the language model: one of `model.quantise.MODES`."""
    image_token: str | None = None
    """Special token that stands for a piece of an image, for a language model without a spare vocabulary row."""
    max_prompt_tokens: int = 128
    max_target_tokens: int = 128

    def __post_init__(self) -> None:
        if self.quantisation not in MODES:
            raise ValueError(f"quantisation is {self.quantisation!r}; it must be one of {', '.join(MODES)}.")
        for name, stage in self.stages.items():
            if (stage.steps is None) == (stage.epochs is None):
                raise ValueError(f"Stage {name!r} needs either steps or epochs.")


def read(path: Path) -> dict[str, Recipe]:
    """Name → recipe, from a JSON file in the form of `recipes.json`. Raises ValueError that names the recipe when one is wrong."""
    recipes = {}
    for name, values in json.loads(path.read_text()).items():
        try:
            recipes[name] = _recipe(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: recipe {name!r}: {error}") from error
    return recipes


def _recipe(values: dict[str, Any]) -> Recipe:
    stages = {name: Stage(**stage) for name, stage in values["stages"].items()}
    return Recipe(**{**values, "stages": stages, "lora": Lora(**values.get("lora", {}))})


RECIPES = read(Path(__file__).with_name("recipes.json"))
