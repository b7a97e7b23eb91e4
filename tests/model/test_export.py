"""An exported model is the one that was trained, for people who have transformers and nothing of ours."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Blip2ForConditionalGeneration

from model import export
from model.adapt import add_lora
from model.freeze import set_trainable
from model.generate import Decoding, generate
from model.images import normalise, to_pixels
from model.load import ModelError, load_model
from model.processor import processor_for
from training.realign import save_adapter

ROOT = Path(__file__).resolve().parents[2]
OURS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py"))
ALONE = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OURS!r}:
            raise ImportError(name + " is ours")
sys.meta_path.insert(0, Refuse())
"""
"""Runs first in a process that must get by without our packages, wherever they are installed."""


@pytest.fixture
def run(model, tokenizer, tmp_path) -> Path:
    """A run as training leaves it: a base, LoRA and aligned parts that differ from the base's, and what it says of itself."""
    folder = tmp_path / "run"
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    wrapped = add_lora(model)
    set_trainable(model, ["qformer", "query_tokens", "projection", "adapter"])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    save_adapter(wrapped, model, folder / "adapter")
    said = {
        "base": str(folder / "base"),
        "steps": 3,
        "samples": 8,
        "loss_right_images": 1.5,
        "loss_shuffled_images": 1.75,
    }
    (folder / "result.json").write_text(json.dumps({**said, "config": {"lr_adapter": 0.002}}))
    return folder


def snippet(card: str, folder: Path, picture: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code.replace('folder = "."', f"folder = {str(folder)!r}").replace('"picture.jpg"', repr(str(picture)))


def test_the_cards_snippet_writes_what_the_trained_model_writes_with_nothing_of_ours_installed(run, tmp_path):
    out, picture = tmp_path / "exported", tmp_path / "picture.png"
    export.export(run, out, torch.float32)
    Image.effect_noise((90, 60), 80).convert("RGB").save(picture)
    code = ALONE + snippet((out / "README.md").read_text(), out, picture)
    code += f"\nassert not set({OURS!r}) & set(sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trained = load_model(run, torch.device("cpu"))
    with Image.open(picture) as image:
        pixels = normalise(to_pixels(image, trained.model.config.vision_config.image_size)[None])
    asked = (["Caption in German:"], ["eng_Latn"], ["deu_Latn"])
    # the language token that NLLB's family is told counts as a new token in the snippet
    decoding = Decoding(max_new_tokens=49 if "m2m_100" in (out / "config.json").read_text() else 50, min_new_tokens=0)
    assert generate(trained.model, trained.tokenizer, pixels, *asked, decoding) == [done.stdout.removesuffix("\n")]


@pytest.mark.parametrize("model", ["tiny", "tiny-decoder"], indirect=True)
def test_in_bfloat16_it_is_half_as_large_and_passes_its_self_test(run, tmp_path):
    found = export.export(run, tmp_path / "half")
    export.export(run, tmp_path / "full", torch.float32)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("half", "full")]
    assert 0.45 < sizes[0] / sizes[1] < 0.6
    assert len(found) == 6 and "texts equal" in found[-1]
    assert found[3].endswith("differ by 0.000%")  # written and loaded, to the bit
    assert not list(tmp_path.glob(".*partial*"))


@pytest.mark.parametrize("model", ["tiny-nllb"], indirect=True)
def test_the_exported_folder_is_a_model_for_our_own_tools_too(run, tmp_path):
    export.export(run, tmp_path / "exported", torch.float32)
    pictures = torch.randn(2, 3, 64, 64)
    asked = (["a dog", "what is it on the grass"], ["eng_Latn"] * 2, ["deu_Latn"] * 2, Decoding(max_new_tokens=6))
    before, after = (load_model(folder, torch.device("cpu")) for folder in (run, tmp_path / "exported"))
    assert generate(before.model, before.tokenizer, pictures, *asked) == generate(
        after.model, after.tokenizer, pictures, *asked
    )


@pytest.mark.parametrize("model", ["tiny-decoder"], indirect=True)
def test_a_model_that_lost_its_adapter_on_the_way_is_not_exported(run, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "merge", lambda loaded: load_without_lora(run))
    with pytest.raises(export.ExportError, match="logits"):
        export.export(run, tmp_path / "exported")
    assert not (tmp_path / "exported").exists() and not list(tmp_path.glob(".exported*"))


@pytest.mark.parametrize("model", ["tiny-decoder"], indirect=True)
def test_a_weight_that_changes_while_it_is_written_is_noticed_below_the_rounding_of_bfloat16(
    run, tmp_path, monkeypatch
):
    as_it_is = export.load_exported

    def a_little_off(folder: Path):
        loaded = as_it_is(folder)
        with torch.no_grad():
            loaded.language_model.model.norm.weight[::7] *= 1.05
        return loaded

    monkeypatch.setattr(export, "load_exported", a_little_off)
    with pytest.raises(export.ExportError, match="Written and loaded, the model's logits differ"):
        export.export(run, tmp_path / "exported")


def load_without_lora(run: Path):
    path = run / "adapter" / "adapter_model.safetensors"
    save_file({name: tensor * ("lora_A" in name) for name, tensor in load_file(path).items()}, path)
    return load_model(run, torch.device("cpu"))


@pytest.mark.parametrize("model", ["tiny"], indirect=True)
def test_an_output_matrix_that_transformers_tied_again_is_noticed(run, tmp_path, monkeypatch):
    def tied(folder):
        model = Blip2ForConditionalGeneration.from_pretrained(folder).eval()
        model.language_model.lm_head.weight = model.language_model.get_input_embeddings().weight
        return model

    monkeypatch.setattr(export, "load_exported", tied)
    with pytest.raises(export.ExportError, match="separate from the embeddings"):
        export.export(run, tmp_path / "exported")


@pytest.mark.parametrize("model", ["tiny-nllb"], indirect=True)
def test_a_processor_that_lays_out_other_ids_is_noticed(run, tmp_path, monkeypatch):
    def without_end(config, tokenizer):
        processor = processor_for(config, tokenizer)
        processor.tokenizer.backend_tokenizer.post_processor = None
        return processor

    monkeypatch.setattr(export, "processor_for", without_end)
    with pytest.raises(export.ExportError, match="other token ids"):
        export.export(run, tmp_path / "exported")


@pytest.mark.parametrize("model", ["tiny"], indirect=True)
def test_the_card_says_what_is_known_and_what_is_not(run, tmp_path):
    report = {
        "protocol": "polyalign/1",
        "remark": "a stand-in",
        "benchmarks": {"xm3600": {"metric": "cider", "macro": {"all": 12.34}, "by_language": {"de": {}, "fr": {}}}},
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    export.export(run, tmp_path / "exported", evaluation=[path], licence_of_base="MIT")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "license: other" in card and "| dataset | unknown |" in card and "| base model | [MIT]" in card
    assert "| xm3600 | cider | 2 | 12.3 | – | – | " in card
    assert "| trained on | 8 | 1.5 | 1.75 |" in card and "| lr_adapter | 0.002 |" in card


@pytest.mark.parametrize("model", ["tiny"], indirect=True)
def test_what_can_not_be_exported_says_why(run, tmp_path):
    with pytest.raises(FileExistsError, match="exists"):
        export.export(run, tmp_path)
    with pytest.raises(ModelError, match="no run"):
        export.export(run / "base", tmp_path / "out")
    (run / "result.json").unlink()
    with pytest.raises(ModelError, match="not finished"):
        export.export(run, tmp_path / "out")


def test_a_push_without_network_or_token_fails_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export", lambda *_: pytest.fail("work began"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for token, message in (("hf_x", "hub can't be asked"), (None, "no token")):
        monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda token=token: token)
        monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda token=token: token)
        with pytest.raises(SystemExit, match=message):
            export.main([str(tmp_path), str(tmp_path / "out"), "--push-to-hub", "me/model"])
    with pytest.raises(SystemExit, match="OWNER/NAME"):
        export.main([str(tmp_path), str(tmp_path / "out"), "--push-to-hub", "model"])
