"""The model card of an exported model: what it was made of, trained on and measured at, and how to use it.

Everything on it is read from what the run left: `result.json`, the adapter's configuration, the shards' manifest, the dataset's card and the
reports of evaluation. What is not at hand is called unknown, and an unknown licence is the most restrictive one.
"""

import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
import yaml
from transformers import Blip2Config

from data_cards import licences
from model.load import base_of, read_result
from pipeline.files import read_json
from pipeline.languages import BY_NLLB

TEMPLATES = Path(__file__).parent
NO_SETTINGS = frozenset(
    ("shards", "out", "base", "languages", "tokenizer", "resume", "aligned", "checkpoint_every", "keep", "log_every", "workers",
     "device", "eval_samples")
)  # fmt: skip
"""What of a run's configuration says where it ran, not what was trained."""


def model_card(
    run: Path, model_config: Blip2Config, name: str, evaluation: Sequence[Path] | None, licence_of_base: str | None, dtype: str
) -> str:  # fmt: skip
    """README.md for the model of `run`. `evaluation`: files report.json, by default those in `run/evaluation`.

    Raises ModelError when `run` is not finished, ValueError that names the file when a report is none.
    """
    result = read_result(run)
    config = result.get("config", {})
    data = dataset(config.get("shards"), config.get("languages") or ())
    parts = [(what, licence_of_base or licence) for what, licence in bases(run)]
    if data:
        parts += [("dataset", data["licence"]), ("translation model of the dataset", data["translation_licence"])]
    else:
        parts.append(("dataset", "unknown"))
    licence = max((licence for _, licence in parts), key=licences.rank)
    identifier = licences.hub_identifier(licence)
    reports = [read_report(path) for path in (evaluation or sorted((run / "evaluation").glob("*/report.json")))]
    head: dict[str, Any] = {"license": identifier}
    if identifier == "other":
        head |= {"license_name": licence.lower().replace(" ", "-"), "license_link": "README.md#licences"}
    languages = data["languages"] if data else []
    tags = sorted({BY_NLLB[code].tag.split("-")[0] for code, _ in languages if code in BY_NLLB})
    head |= {
        **({"language": tags} if tags else {}),
        "library_name": "transformers",
        "pipeline_tag": "image-text-to-text",
        "tags": ["blip-2", "multilingual", "polyalign"],
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.get_template("model_card.md.j2").render(
        head=yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
        name=name,
        result=result,
        training={key: value for key, value in config.items() if key not in NO_SETTINGS},
        adapter=read_json(adapter) if (adapter := run / "adapter" / "adapter_config.json").is_file() else None,
        language_model=model_config.text_config.model_type,
        image_size=model_config.vision_config.image_size,
        query_tokens=model_config.num_query_tokens,
        is_decoder_only=model_config.use_decoder_only_language_model,
        has_language_tokens=model_config.text_config.model_type == "m2m_100",
        data=data,
        languages=[(BY_NLLB[code].name if code in BY_NLLB else code, code, count) for code, count in languages],
        parts=[(what, value, link(value)) for what, value in parts],
        licence=licence,
        reports=reports,
        dtype=dtype,
        transformers_version=version("transformers"),
    )


def link(licence: str) -> str | None:
    """The licence's text in SPDX's list, whose addresses have SPDX's capitals; a card of the hub writes small letters."""
    return licences.link(licence) if licence != licence.lower() else None


def bases(run: Path) -> list[tuple[str, str]]:
    """(part, its licence) of what a run started from, as the parts' own cards say."""
    base = base_of(run)
    if base is not None:
        return [("base model", str(front_matter(base / "README.md").get("license", "unknown")))]
    used = read_result(run)["parts"]
    return [
        (
            f"{part.replace('_', ' ')} `{used[part]}`",
            str(front_matter(Path(used[part]) / "README.md").get("license", "unknown")),
        )
        for part in ("eyes", "language_model")
    ]


def dataset(shards: str | None, chosen: Sequence[str]) -> dict[str, Any] | None:
    """What the card says of the shards that a run was trained on; None when they are not at hand. `chosen`: NLLB codes, all when empty."""
    manifest_path = Path(shards).parent / "manifest.json" if shards else None
    if manifest_path is None or not manifest_path.is_file():
        return None
    manifest = read_json(manifest_path)
    model = manifest.get("translation_model") or {}
    card = front_matter(manifest_path.parent.parent / "card" / "README.md")
    by_language = sorted(manifest["by_language"].items(), key=lambda pair: (-pair[1], pair[0]))
    return {
        "name": manifest["name"],
        "samples": manifest["samples"],
        "images": manifest["images"],
        "by_task": manifest["by_task"],
        "by_source": manifest["by_source"],
        "languages": [(code, count) for code, count in by_language if not chosen or code in chosen],
        "translation_model": model.get("name", "unknown"),
        "translation_licence": model.get("licence", "unknown"),
        "licence": card.get("license_name") or card.get("license") or "unknown",
    }


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML head of a card; empty when there is no card or no head."""
    match = re.match(r"---\n(.*?)\n---\n", path.read_text(encoding="utf-8"), re.DOTALL) if path.is_file() else None
    return yaml.safe_load(match.group(1)) or {} if match else {}


def read_report(path: Path) -> dict[str, Any]:
    """A report of evaluation. Raises ValueError when the file is something else."""
    report = read_json(path)
    if not isinstance(report, dict) or "benchmarks" not in report or "protocol" not in report:
        raise ValueError(f"{path} is no report of evaluation: name the report.json that evaluation.evaluate wrote.")
    return report
