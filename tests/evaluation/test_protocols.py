"""Prompts and decoding: the papers' own, and no change without a new version."""

import dataclasses
import hashlib
import json

from evaluation.protocols import PROTOCOLS
from evaluation.records import Item, facts
from model.generate import Decoding

FARSI = Item("fa/1", "fa", (), "Ist das wahr?", ("ja",))
HEBREW = dataclasses.replace(FARSI, code="iw")
SHORT = Decoding(beams=5, max_new_tokens=10, length_penalty=-1.0)
CONTENT = {"mblip/1": "92eb92fd", "centurio/1": "3f44318f", "polyalign/1": "027be9de"}
"""Beginnings of the digests of what a protocol asks. Whoever changes one gives the protocol a new version."""


def without_defaults(value):
    """A dataclass as nested dictionaries of what is not a field's default, so that a new field with a default changes nothing."""
    if dataclasses.is_dataclass(value):
        pairs = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {field.name: without_defaults(x) for field, x in pairs if x != field.default}
    return {key: without_defaults(x) for key, x in value.items()} if isinstance(value, dict) else value


def prompts(protocol: str, item: Item) -> dict[str, str]:
    return {name: ask.prompt(item) for name, ask in PROTOCOLS[protocol].asks.items()}


def test_mblip_asks_as_its_code_does():
    """configs/datamodule/mblip_*.yaml and data/maxm/generate_maxm.py of gregor-ge/mBLIP."""
    asked = prompts("mblip", HEBREW)
    assert asked["xgqa"] == "Question: Ist das wahr? Short answer in English:"
    assert asked["xvnli"] == 'Is it guaranteed true that "Ist das wahr?"? Yes, no, or maybe? Answer in English:'
    assert (
        asked["marvl"] == 'Based on the two images, is it correct to say "Ist das wahr?"? Yes or no? Answer in English:'
    )
    assert asked["maxm"] == "Question: Ist das wahr? Short answer in Hebrew:"
    assert asked["xm3600"] == asked["xflickrco"] == "Caption in Hebrew: "
    assert prompts("mblip", FARSI)["xm3600"] == "Caption in Farsi: "
    asks = PROTOCOLS["mblip"].asks
    assert {asks[name].clean for name in ("xgqa", "xvnli", "marvl")} == {"vqa"} and asks["maxm"].clean == "strip"
    assert {asks[name].decoding for name in ("xgqa", "xvnli", "marvl", "maxm", "pope")} == {SHORT}
    assert asks["xm3600"].decoding == asks["xflickrco"].decoding == Decoding(beams=5, max_new_tokens=50)
    assert PROTOCOLS["mblip"].splitting == "paper" and {ask.answer for ask in asks.values()} == {"generate"}


def test_centurio_is_greedy_and_asks_its_own_prompts():
    asked, asks = prompts("centurio", HEBREW), PROTOCOLS["centurio"].asks
    assert asked["xm3600"] == "Briefly describe the image in Hebrew in one sentence."
    assert asked["maxm"] == asked["xgqa"] == "Ist das wahr?"
    assert {ask.decoding.beams for ask in asks.values()} == {1}


def test_ours_names_languages_consistently_and_ranks_labels():
    asked, asks = prompts("polyalign", FARSI), PROTOCOLS["polyalign"].asks
    assert asked["xm3600"] == asked["xflickrco"] == "Caption in Persian:"
    for name, ask in asks.items():
        assert (ask.answer == "rank") == (facts()[name]["task"] == "choice"), name


def test_every_protocol_has_every_benchmark_and_none_changes_without_a_new_version():
    for protocol in PROTOCOLS.values():
        assert list(protocol.asks) == [name for name in facts() if "task" in facts()[name]]
        content = json.dumps(without_defaults(protocol), sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        assert digest.startswith(CONTENT[protocol.label]), (
            f"{protocol.label} is now {digest[:8]}: give it a new version"
        )
