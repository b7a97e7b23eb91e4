"""From a stand-in to a report with an untrained model: every protocol, a kill, images that can't be read, two images an item."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from evaluation import benchmarks, report
from evaluation.ask import load
from evaluation.evaluate import evaluate, main, own_codes, select
from evaluation.protocols import PROTOCOLS, Protocol, labels_of
from evaluation.records import BenchmarkError, Item
from evaluation.run import answer, batches_of, predict, read_predictions
from evaluation.score import score
from model.generate import Decoding
from model.images import BadImage, read_image
from model.inputs import stack, tokenize
from model.load import ModelError
from pipeline.languages import ENGLISH
from tests.evaluation.conftest import tiny

QUICK = Decoding(max_new_tokens=4)


def quick(name: str) -> Protocol:
    """A protocol with short outputs, so that an untrained model does not write to the limit."""
    protocol = PROTOCOLS[name]
    asks = {
        key: dataclasses.replace(
            ask, decoding=dataclasses.replace(ask.decoding, max_new_tokens=4, beams=min(ask.decoding.beams, 2))
        )
        for key, ask in protocol.asks.items()
    }
    return dataclasses.replace(protocol, asks=asks)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_runs_every_benchmark_to_a_report(protocol, written, model, tmp_path):
    data, codes = written
    items = {name: select(benchmarks.read(name, data, codes[name][:2]), 2) for name in benchmarks.READERS}
    result = evaluate(items, model, quick(protocol), tmp_path, data, "tiny")
    assert set(result["benchmarks"]) == set(benchmarks.READERS)
    for name, of in items.items():
        assert sum(x["items"] for x in result["benchmarks"][name]["by_language"].values()) == len(of)
    assert json.loads((tmp_path / "report.json").read_text())["protocol"] == f"{protocol}/1"
    page = (tmp_path / "index.html").read_text()
    assert "XM3600" in page and "data:image/jpeg" in page and "built-in" not in page
    assert f'<td class="n">{len(items["xgqa"])}</td><td>exact match' in page
    assert "stand-ins in the benchmarks' formats" in page and "Centurio Qwen" not in page
    assert "Centurio Qwen" not in (tmp_path / "report.md").read_text(), "a stand-in compares with nothing"


def test_every_architecture_generates_and_ranks_and_two_images_are_not_one(written, any_model):
    data, _ = written
    items = select(benchmarks.read("marvl", data, ["de"]), 2)
    pictures = [[read_image(path, any_model.image_size) for path in item.images] for item in items]
    prompts = [PROTOCOLS["mblip"].asks["marvl"].prompt(item) for item in items]
    assert len(any_model.generate(pictures, prompts, [ENGLISH] * 2, QUICK)) == 2
    scores = any_model.rank(pictures, prompts, labels_of("marvl"))
    assert scores.shape == (2, 2) and bool((scores < 0).all())
    swapped = any_model.rank([x[::-1] for x in pictures], prompts, labels_of("marvl"))
    first_twice = any_model.rank([[x[0], x[0]] for x in pictures], prompts, labels_of("marvl"))
    assert not torch.allclose(scores, swapped, atol=1e-6), "the order of the images is ignored"
    assert not torch.allclose(scores, first_twice, atol=1e-6), "the right image is ignored"
    one_by_one = torch.cat(
        [any_model.rank([p], [q], labels_of("marvl")) for p, q in zip(pictures, prompts, strict=True)]
    )
    assert torch.allclose(scores, one_by_one, atol=1e-4), "padding changes the ranking"


def test_a_model_with_language_tokens_is_told_the_language_of_the_answer(written, monkeypatch):
    """The language that the prompt asks for, which for MaXM is that of the question also where the prompt does not say it."""
    told = {}
    model = tiny("tiny-nllb")
    monkeypatch.setattr(model.model, "generate", spy := Spy(model.model.generate))
    data, _ = written
    for name in PROTOCOLS:
        for benchmark in ("xgqa", "maxm", "xflickrco"):
            item = benchmarks.read(benchmark, data, ["de" if benchmark != "maxm" else "th"])[0]
            image = [[read_image(item.images[0], model.image_size)]]
            ask = quick(name).asks[benchmark]
            answer(benchmark, [item], image, [ask.prompt(item)], model, ask)
            told[name, benchmark] = model.tokenizer.convert_ids_to_tokens(int(spy.keywords["decoder_input_ids"][0, 1]))
    for name in PROTOCOLS:
        assert told[name, "xgqa"] == "eng_Latn"
        assert told[name, "maxm"] == "tha_Thai"
        assert told[name, "xflickrco"] == "deu_Latn"


class Spy:
    """Calls on and keeps the keywords."""

    def __init__(self, function):
        self.function, self.keywords = function, {}

    def __call__(self, **keywords):
        self.keywords = keywords
        return self.function(**keywords)


def test_ranking_is_the_mean_over_the_label_s_tokens_and_its_end(written, any_model):
    """Against transformers' own loss, which is the mean negative log-probability of the labels."""
    model = any_model

    data, _ = written
    item = benchmarks.read("xvnli", data, ["en"])[0]
    pictures = [[read_image(item.images[0], model.image_size)]]
    ours = model.rank(pictures, ["Is it?"], ["maybe not today"])
    text = tokenize(model.tokenizer, model.layout, ["Is it?"], ["maybe not today"], [ENGLISH], [ENGLISH], 64, 64)
    with torch.no_grad():
        plain = model.model(pixel_values=model.pixels(pictures), **stack(model.layout, text)).loss
    assert float(ours) == pytest.approx(-float(plain), abs=1e-4)


def test_a_killed_run_goes_on_and_ends_with_the_same_answers(written, model, tmp_path):
    data, _ = written
    items = benchmarks.read("xflickrco", data, ["en", "de"])
    protocol = quick("polyalign")
    whole = (
        predict("xflickrco", items, model, protocol, tmp_path / "whole", 2)
        if (tmp_path / "whole").mkdir() is None
        else {}
    )
    cut = tmp_path / "cut"
    cut.mkdir()
    predict("xflickrco", items, model, protocol, cut, 2, stop_after=2)
    path = cut / "xflickrco.predictions.0.jsonl"
    assert len(path.read_bytes().splitlines()) == 4
    with open(path, "ab") as file:
        file.write(b'{"id": "en/half')
    with pytest.raises(BenchmarkError, match=r"4 items have no answer"):
        score("xflickrco", items, read_predictions("xflickrco", cut), protocol)
    assert predict("xflickrco", items, model, protocol, cut, 2) == whole == read_predictions("xflickrco", cut)
    assert len(path.read_bytes().splitlines()) == len(items) == 8


def test_the_likeliest_label_is_the_answer_and_items_of_one_and_two_images_are_never_together(model, monkeypatch):
    items = sentences("en", "a", "b")
    monkeypatch.setattr(type(model), "rank", lambda *_: torch.tensor([[-1.0, -2.0], [-3.0, -0.5]]))
    rows = answer("marvl", items, [[], []], ["p", "q"], model, PROTOCOLS["polyalign"].asks["marvl"])
    assert [row["output"] for row in rows] == ["yes", "no"] and rows[1]["scores"] == {"yes": -3.0, "no": -0.5}
    one, two = (dataclasses.replace(items[0], images=(Path("x"),) * n) for n in (1, 2))
    assert [len(batch) for batch in batches_of([one, one, one, two, two], 2)] == [2, 1, 2]


def test_two_processes_ask_disjoint_halves_and_answers_of_another_run_are_refused(written, model, tmp_path):
    data, _ = written
    items = benchmarks.read("xflickrco", data, ["en"])
    protocol = quick("polyalign")
    for rank in (0, 1):
        (tmp_path / "0").mkdir(exist_ok=True)  # the second starts when the first has answered its half
        predict("xflickrco", items, model, protocol, tmp_path / "0", 2, rank, 2)
    lines = [(tmp_path / "0" / f"xflickrco.predictions.{rank}.jsonl").read_text().splitlines() for rank in (0, 1)]
    assert [len(x) for x in lines] == [2, 2]
    assert set(read_predictions("xflickrco", tmp_path / "0")) == {item.id for item in items}
    with pytest.raises(BenchmarkError, match=r"another run .other protocol"):
        predict("xflickrco", items, model, quick("centurio"), tmp_path / "0", 2)
    with pytest.raises(BenchmarkError, match=r"another run .other items"):
        predict("xflickrco", items[:-1], model, protocol, tmp_path / "0", 2)


def test_images_that_can_t_be_read_are_counted_and_no_score_is_given(written, model, tmp_path):
    data, _ = written
    items = benchmarks.read("xm3600", data, ["en", "de"])
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(items[0].images[0].read_bytes()[:200])
    items = [dataclasses.replace(x, images=(damaged,)) if x.group == items[0].group else x for x in items]
    with pytest.raises(BadImage):
        read_image(damaged, 64)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BenchmarkError, match=r"1 images can't be read, 2 items were not asked.*\n.*damaged.jpg"):
        predict("xm3600", items, model, quick("polyalign"), out, 4)
    assert len(read_predictions("xm3600", out)) == len(items) - 2


def test_right_answers_score_and_those_in_another_language_show(written):
    data, codes = written
    items = benchmarks.read("xm3600", data, codes["xm3600"])
    perfect = {item.id: {"output": item.answers[0]} for item in items}
    result = score("xm3600", items, perfect, PROTOCOLS["polyalign"])
    assert all(x["chrf"] == 100 for x in result["by_language"].values())
    assert set(result["segmenters"]) == {"Chinese", "Thai"}
    english = {item.group: item.answers[0] for item in items if item.code == "en"}
    wrong = {item.id: {"output": english[item.group]} for item in items}
    result = score("xm3600", items, wrong, PROTOCOLS["polyalign"])["by_language"]
    assert result["ar"]["in_script"] == 0 and result["en"]["in_script"] == 100 and result["ar"]["cider"] == 0


def test_worst_languages_come_first_and_published_numbers_know_whether_they_compare():
    result = {"metric": "cider", "by_language": {"de": {"cider": 5.0}, "zh": {"cider": 1.0}, "en": {"cider": 9.0}}}
    assert [code for code, _ in report.worst_first(result)] == ["zh", "de", "en"]
    chair = {"metric": "chair_i", "by_language": {"a": {"chair_i": 5.0}, "b": {"chair_i": 9.0}}}
    assert [code for code, _ in report.worst_first(chair)] == ["b", "a"]
    assert not any(row["comparable"] for row in report.published("xgqa", "centurio/1", whole=False))
    rows = report.published("xgqa", "centurio/1", whole=True)
    assert {row["model"] for row in rows if row["comparable"]} == {"Pangea-7B", "Centurio Aya", "Centurio Qwen"}
    assert all(row["source"] and row["protocol"] for row in rows)


def test_a_report_stands_beside_published_figures_worst_language_first_and_writes_right_to_left():
    counts = {code: {"items": 298, "exact_match": 50.0 - i, "most_common": {"text": "x", "share": 1.0}} for i, code in
              enumerate(("en", "fr", "hi", "iw", "ro", "th", "zh"))}  # fmt: skip
    result = {"metric": "exact_match", "by_language": counts, "macro": {"all": 47.0, "english": 50.0}}
    whole = {"protocol": "centurio/1", "model": {"name": "m", "fingerprint": "f"}, "benchmarks": {"maxm": result}}
    text, page = report.markdown(whole), report.html(whole, {})
    assert "| Centurio Qwen | 60.1 | 47.7 |" in text and "<td>Centurio Qwen</td>" in page
    rows = [line for line in text.splitlines() if line.endswith("|") and "| 298 |" in line]
    assert [row.split("|")[1].strip() for row in rows][:2] == ["Chinese (zh)", "Thai (th)"]
    assert page.index("<td>Chinese</td>") < page.index("<td>Thai</td>") < page.index("<td>English</td>")
    assert '<span lang="he" dir="rtl">x</span>' in page and '<span lang="fr" dir="ltr">' in page


def test_the_command_checks_data_and_refuses_what_is_no_model(written, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    data, _ = written
    with pytest.raises(SystemExit) as exit_:
        main(["--benchmark", "xvnli", "--data", str(data), "--check", "--languages", "fr"])
    assert exit_.value.code == 1 and "fr" in capsys.readouterr().out
    assert own_codes("marvl", ["de", "zh"]) == ["zh"] and own_codes("marvl", None) is None
    with pytest.raises(SystemExit, match=r"marvl-xx.jsonl is not there"):
        main(["--model", str(tmp_path), "--benchmark", "marvl", "--data", str(data), "--languages", "xx"])
    with pytest.raises(SystemExit, match=r"not a folder here, and as a hub id .*hf download"):
        main(
            ["--model", "no-such/model", "--benchmark", "xvnli", "--data", str(data), "--languages", "en", "--out", "x"]
        )
    with pytest.raises(ModelError, match=r"neither adapter/"):
        load(tmp_path)
    with pytest.raises(SystemExit, match=r"error: .*is no model"):
        main(["--model", str(tmp_path), "--benchmark", "xvnli", "--data", str(data), "--languages", "en"])


def test_the_house_rules_hold_here():
    root = Path(benchmarks.__file__).parents[1]
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), path
        imported = {
            name.split(".")[0]
            for node in ast.walk(tree)
            for name in (
                [x.name for x in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""]
            )
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        assert not imported & {"pickle", "dill", "joblib", "flows", "prefect"}, path
        assert "torch.load(" not in path.read_text(encoding="utf-8"), path


def sentences(code: str, *texts: str) -> list[Item]:
    return [Item(f"{code}/{i}", code, (), "", (text,), "one image") for i, text in enumerate(texts)]


def test_language_fidelity_tells_the_language_asked_for_from_another_of_the_same_script():
    german = "Ein brauner Hund läuft über den nassen Sand und trägt einen Stock."
    english = "A brown dog runs over the wet sand and carries a long stick."
    items = sentences("de", german, german, english, english)
    said = {item.id: {"output": text} for item, text in zip(items, (german, english, german, english), strict=True)}
    result = score("xflickrco", items, said, PROTOCOLS["polyalign"])["by_language"]["de"]
    assert result["in_language"] == 50 and result["in_script"] == 100 and result["check"] != "unverified"
    croatian = [dataclasses.replace(item, code="hr", id=f"hr/{i}") for i, item in enumerate(items)]
    said = {item.id: {"output": german} for item in croatian}
    assert score("xm3600", croatian, said, PROTOCOLS["polyalign"])["by_language"]["hr"]["in_language"] is None


def test_intervals_of_captions_and_answers_draw_images_and_not_items():
    """All items are about one image, so there is nothing to draw: the interval is the mean."""
    for name, items in (
        ("xflickrco", sentences("de", "ein Hund", "zwei Katzen")),
        ("maxm", sentences("fr", "un chat", "chien")),
    ):
        said = {items[0].id: {"output": items[0].answers[0]}, items[1].id: {"output": "Haus"}}
        result = score(name, items, said, PROTOCOLS["polyalign"])
        values = result["by_language"][items[0].code]
        assert values[result["metric"]] > 0 and values["interval"] == [round(values[result["metric"]], 2)] * 2


def test_answers_are_cleaned_as_the_protocol_says_and_outputs_that_are_no_label_are_counted():
    items = [dataclasses.replace(item, answers=("yes",)) for item in sentences("en", "a", "b", "c")]
    said = {item.id: {"output": text} for item, text in zip(items, ("The yes.", "yes", "perhaps"), strict=True)}
    cleaned = score("marvl", items, said, PROTOCOLS["mblip"])["by_language"]["en"]
    assert cleaned["accuracy"] == pytest.approx(200 / 3) and cleaned["not_a_label"] == pytest.approx(100 / 3)
    as_it_is = score("marvl", items, said, PROTOCOLS["centurio"])["by_language"]["en"]
    assert as_it_is["accuracy"] == pytest.approx(100 / 3) and as_it_is["not_a_label"] == pytest.approx(200 / 3)


def test_a_second_command_keeps_what_the_first_one_reported(written, model, tmp_path):
    data, _ = written
    asked = {name: select(benchmarks.read(name, data, ["zh"]), 1) for name in ("marvl", "xflickrco")}
    for name, items in asked.items():
        result = evaluate({name: items}, model, quick("polyalign"), tmp_path, data, "tiny")
    assert (
        set(json.loads((tmp_path / "report.json").read_text())["benchmarks"]) == set(result["benchmarks"]) == set(asked)
    )
    assert (tmp_path / "index.html").read_text().count("<figure>") == 2
    again = evaluate({"marvl": asked["marvl"]}, model, quick("polyalign"), tmp_path, data, "tiny", remark="other")
    assert set(again["benchmarks"]) == {"marvl"}, "a report of another kind is not mixed in"
