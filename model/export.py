"""One folder that plain transformers loads, out of a training run.

    python -m model.export RUN OUT

LoRA and the aligned parts are merged into the base, in the base's own precision, and written as bfloat16 with a `Blip2Processor` and a model
card. `Blip2ForConditionalGeneration.from_pretrained(OUT)` and `Blip2Processor.from_pretrained(OUT)` are all that a user needs; nothing of
ours is imported. Merged, the model is compared with the run's as it was trained, adapters unmerged; and before the folder gets its name it is
loaded as a user does and compared again: token ids and pixels of the processor, output matrix tied or not as before, logits, and the same texts.

Two copies of the model are in memory at the end. `--push-to-hub` looks for the network and a token before any of this.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError
from huggingface_hub.utils import validate_repo_id
from PIL import Image, ImageDraw
from torch import Tensor
from transformers import Blip2ForConditionalGeneration, Blip2Processor, GenerationConfig, PreTrainedTokenizerBase
from transformers.image_utils import OPENAI_CLIP_STD as STD

from model import assemble
from model.card import model_card
from model.generate import Decoding, generate
from model.images import normalise, to_pixels
from model.inputs import IGNORED, Layout, stack, stack_prompts, tokenize, tokenize_prompts
from model.load import LoadedModel, ModelError, load_model, merge, run_folder
from model.processor import processor_for
from pipeline.files import folder_written_aside
from pipeline.languages import ENGLISH, LANGUAGES

log = logging.getLogger("model.export")

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
TOLERANCE = {torch.bfloat16: 0.1, torch.float32: 1e-3}
"""Largest relative error of the logits that rounding explains. bfloat16 keeps 8 bits (0.4 %) of every weight and activation, and that adds up over
the layers: 5 % after SmolLM2's 30."""
NEW_TOKENS = 12
"""Of the texts that are compared; enough for a difference to show, few enough for a model of billions on a CPU."""


class ExportError(ValueError):
    """The exported folder is not the model that was trained; the message says where they differ."""


@dataclass(frozen=True)
class Probe:
    """What a model is asked before and after."""

    images: list[Image.Image]
    prompts: list[str]
    languages: list[str]
    """NLLB code of each answer."""


def default_probe() -> Probe:
    """Drawn pictures, and one prompt in a language of each script, so that every kind of token is asked for."""
    one_a_script = list({language.script: language for language in reversed(LANGUAGES)}.values())[::6]
    languages = [language for language in LANGUAGES if language.nllb == ENGLISH] + one_a_script
    images = []
    for i, _ in enumerate(languages):
        image = Image.new("RGB", (97, 64 + 16 * i), ("white", "navy", "olive")[i % 3])
        ImageDraw.Draw(image).ellipse((10, 8, 60, 56), ("red", "yellow", "teal", "pink")[i % 4])
        images.append(image)
    return Probe(images, [f"Caption in {x.name}:" for x in languages], [x.nllb for x in languages])


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        if args.push_to_hub:
            check_hub(args.push_to_hub)
        report = export(args.run, args.out, DTYPES[args.dtype], args.evaluation, args.licence_of_base)
        for line in report:
            sys.stdout.write(f"{line}\n")
        sys.stdout.write(f"model: {args.out}\n")
        if args.push_to_hub:
            sys.stdout.write(f"pushed: {push(args.out, args.push_to_hub, args.private)}\n")
    except (OSError, ValueError, HTTPError) as error:
        sys.exit(f"error: {error}")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m model.export", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of training/realign.py")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16", help="of the weights (default: bfloat16)")
    parser.add_argument(
        "--evaluation", type=Path, nargs="+", metavar="REPORT.json",
        help="reports of evaluation.evaluate for the card (default: those in RUN/evaluation)",
    )  # fmt: skip
    parser.add_argument(
        "--licence-of-base", metavar="LICENCE", help="licence of the base's weights, where its own card says none"
    )
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="upload OUT to this repository of the hub")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    return parser.parse_args(argv)


def export(
    folder: Path,
    out: Path,
    dtype: torch.dtype = torch.bfloat16,
    evaluation: Sequence[Path] | None = None,
    licence_of_base: str | None = None,
    probe: Probe | None = None,
) -> list[str]:
    """Make `out` from the training run in `folder`, there whole or not at all; returns what the self-test found, a line each.

    Raises ModelError when `folder` is no finished run, FileExistsError when `out` is there, ExportError when the self-test fails.
    """
    run = run_folder(folder)
    if run is None:
        raise ModelError(f"{folder} is no run of training/realign.py: it has no adapter/.")
    if out.exists():
        raise FileExistsError(f"{out} exists; remove it, or name another folder.")
    probe = probe or default_probe()

    log.info("loading %s", run)
    trained = load_model(run, torch.device("cpu"), merge_adapter=False)
    precision = str(dtype).removeprefix("torch.")
    card = model_card(run, trained.model.config, out.name, evaluation, licence_of_base, precision)
    trained_tie = assemble.output_matrix_is_tied(trained.model)
    before = probe_logits(trained.model, trained.tokenizer, probe)
    is_float32 = all(parameter.dtype is torch.float32 for parameter in trained.model.parameters())
    ran_in = torch.float32 if is_float32 else torch.bfloat16
    merged = merge(trained)
    found = [check_logits(before, probe_logits(merged.model, merged.tokenizer, probe), ran_in, "merged")]
    assemble.cast(merged.model, dtype)

    with folder_written_aside(out) as aside:
        log.info("writing %s", out)
        save(merged, aside, dtype)
        (aside / "README.md").write_text(card, encoding="utf-8")
        log.info("loading it as a user does, and comparing")
        exported = load_exported(aside)
        processor = Blip2Processor.from_pretrained(aside)
        found += [check_tie(trained_tie, exported), check_inputs(merged, processor, probe)]
        cast_as(merged.model, exported)
        after = probe_logits(exported, trained.tokenizer, probe)
        # written and read again, nothing may have changed, in whatever precision; what is left is the precision's rounding
        read_again = probe_logits(merged.model, trained.tokenizer, probe)
        found.append(check_logits(read_again, after, torch.float32, "written and loaded"))
        found.append(check_logits(before, after, dtype, f"in {str(dtype).removeprefix('torch.')}"))
        found.append(check_texts(merged, exported, processor, probe))
        return found


def save(merged: LoadedModel, folder: Path, dtype: torch.dtype) -> None:
    """Weights, configuration, processor and generation settings in `folder`."""
    model, tokenizer = merged.model, merged.tokenizer
    layout = Layout.of(model.config, tokenizer)
    ids = {"eos_token_id": layout.eos, "pad_token_id": layout.pad, "bos_token_id": tokenizer.bos_token_id}
    if layout.is_encoder_decoder:
        ids["decoder_start_token_id"] = layout.decoder_start
    for name, id in ids.items():  # the language model's own `generate` goes by these
        setattr(model.config.text_config, name, id)
    model.config.dtype = dtype
    model.requires_grad_(True)
    model.save_pretrained(folder)
    processor_for(model.config, tokenizer).save_pretrained(folder)
    GenerationConfig(**ids, max_new_tokens=Decoding().max_new_tokens, do_sample=False).save_pretrained(folder)


def load_exported(folder: Path) -> Any:
    """The model as a user loads it. Raises ExportError when a weight is missing or left over."""
    with assemble.quiet_transformers():
        model, report = Blip2ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[what]:
            raise ExportError(
                f"The exported model has {what.replace('_', ' ')}: {', '.join(map(str, sorted(report[what])[:5]))}."
            )
    return model.eval()


def cast_as(model: Any, other: Any) -> None:
    """Give each parameter of `model` the precision that it has in `other` (transformers keeps some layers in float32)."""
    kept = dict(other.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(kept[name].dtype)


def pixels_of(model: Any, probe: Probe) -> Tensor:
    """float32 (images, 3, size, size), normalised."""
    size = model.config.vision_config.image_size
    return normalise(torch.stack([to_pixels(image, size) for image in probe.images]))


@torch.no_grad()
def probe_logits(model: Any, tokenizer: PreTrainedTokenizerBase, probe: Probe) -> Tensor:
    """Logits of transformers' own forward where there is a label, float32 (label positions, vocabulary)."""
    layout = Layout.of(model.config, tokenizer)
    english = [ENGLISH] * len(probe.prompts)
    texts = tokenize(
        tokenizer, layout, probe.prompts, ["a picture of it"] * len(english), english, probe.languages, 64, 16
    )
    batch = stack(layout, texts)
    logits, labels = model(pixel_values=pixels_of(model, probe), **batch).logits.float(), batch["labels"]
    if not layout.is_encoder_decoder:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return logits[labels != IGNORED]


def check_inputs(merged: LoadedModel, processor: Any, probe: Probe) -> str:
    """Raises ExportError unless the processor gives the token ids and pixels that our own code gives."""
    layout = Layout.of(merged.model.config, merged.tokenizer)
    prompts = tokenize_prompts(merged.tokenizer, layout, probe.prompts, [ENGLISH] * len(probe.prompts))
    own_pixels = pixels_of(merged.model, probe)
    difference = 0.0
    for i, prompt in enumerate(probe.prompts):
        inputs = processor(images=probe.images[i], text=prompt, return_tensors="pt")
        ids = stack_prompts(layout, prompts[i : i + 1], probe.languages[i : i + 1])["input_ids"]
        if not torch.equal(inputs["input_ids"], ids):
            raise ExportError(
                f"The processor gives other token ids than training for {prompt!r}: {inputs['input_ids'].tolist()} and {ids.tolist()}."
            )
        difference = max(difference, float((inputs["pixel_values"] - own_pixels[i : i + 1]).abs().max()))
    if difference > 2 / 255 / min(STD):  # torchvision's filter rounds otherwise than Pillow's; two steps of 255
        raise ExportError(f"The processor's pixels differ from training's by up to {difference:.3f}.")
    return f"token ids of {len(prompts)} prompts equal; pixels differ by {difference:.4f} at most"


def check_tie(was_tied: bool, exported: Any) -> str:
    """Raises ExportError when loading has tied or untied what training had not."""
    is_tied = assemble.output_matrix_is_tied(exported)
    if is_tied != was_tied:
        raise ExportError(
            f"The output matrix was {'tied to' if was_tied else 'separate from'} the embeddings and is not so after loading."
        )
    return f"output matrix {'tied to' if is_tied else 'separate from'} the embeddings, as in training"


def check_logits(before: Tensor, after: Tensor, dtype: torch.dtype, what: str) -> str:
    """Raises ExportError when the logits (label positions, vocabulary) moved by more than rounding in `dtype`. `what`: was done between the two."""
    error = float((after - before).norm() / (before - before.mean(dim=1, keepdim=True)).norm())
    if not error <= TOLERANCE[dtype]:
        raise ExportError(
            f"{what.capitalize()}, the model's logits differ from those before by {error:.2%}; {TOLERANCE[dtype]:.2%} is what rounding explains. "
            "Nothing was kept."
        )
    return f"{what}: logits at {len(before)} positions differ by {error:.3%}"


def check_texts(merged: LoadedModel, exported: Any, processor: Any, probe: Probe) -> str:
    """Raises ExportError unless both write the same, one with our code, the other with transformers' alone."""
    layout = Layout.of(merged.model.config, merged.tokenizer)
    pixels = pixels_of(merged.model, probe)
    for i, (prompt, language) in enumerate(zip(probe.prompts, probe.languages, strict=True)):
        decoding = Decoding(max_new_tokens=NEW_TOKENS)
        (ours,) = generate(merged.model, merged.tokenizer, pixels[i : i + 1], [prompt], [ENGLISH], [language], decoding)
        inputs = processor(images=probe.images[i], text=prompt, return_tensors="pt")
        if layout.language_tokens:
            start = layout.language_tokens.get(language, layout.unknown)
            inputs["decoder_input_ids"] = torch.tensor([[layout.decoder_start, start]])
        ids = exported.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=1, do_sample=False)
        theirs = processor.decode(new_tokens(ids[0], inputs, layout), skip_special_tokens=True).strip()
        if ours != theirs:
            raise ExportError(f"To {prompt!r} the trained model writes {ours!r}, the exported one {theirs!r}.")
    return f"{len(probe.prompts)} texts equal"


def new_tokens(ids: Tensor, inputs: Any, layout: Layout) -> Tensor:
    """`ids` without the prompt that a decoder-only model repeats."""
    return ids if layout.is_encoder_decoder else ids[inputs["input_ids"].shape[1] :]


def check_hub(repository: str) -> None:
    """Raises ValueError, with the remedy, unless the hub answers and would take `repository` from us."""
    validate_repo_id(repository)
    owner, slash, _ = repository.partition("/")
    if not slash:
        raise ValueError(f"--push-to-hub takes OWNER/NAME, not {repository!r}.")
    try:
        who = HfApi().whoami()
    except LocalTokenNotFoundError as error:
        raise ValueError("There is no token for the hub: run `hf auth login`, or set HF_TOKEN.") from error
    except (OSError, HTTPError) as error:
        raise ValueError(
            f"The hub can't be asked ({error}). Nothing was done. Export without --push-to-hub, and upload the folder later with "
            f"`hf upload {repository} OUT`."
        ) from error
    names = [who["name"], *(organisation["name"] for organisation in who.get("orgs", []))]
    if owner not in names:
        raise ValueError(
            f"The hub's token is of {names[0]}, who can't write to {owner}; it can write to {', '.join(names)}."
        )


def push(folder: Path, repository: str, private: bool) -> str:
    """Upload `folder`; returns the address of the repository."""
    api = HfApi()
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export by Polyalign")
    return str(address)


if __name__ == "__main__":
    main()
