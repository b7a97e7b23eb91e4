"""Curves show what the logs say, for a person and as a file."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training.curves import main, picture, small_multiples, smooth, standalone
from training.report import Board


def rows(steps: int = 40) -> list[dict]:
    """German falls from 4 to 2 bits a byte, Hindi is at 1; Yoruba has one text in the middle of the run."""
    made = []
    for i in range(1, steps + 1):
        german = 4 - 2 * i / steps
        groups = {"deu_Latn": [german * 100 * math.log(2), 30, 100], "hin_Deva": [50 * math.log(2), 10, 50]}
        if i == steps // 2:
            groups["yor_Latn"] = [3 * 20 * math.log(2), 5, 20]
        nats, tokens, size = (sum(column) for column in zip(*groups.values(), strict=True))
        made.append({"step": i, "language": groups, "task": {"captioning": [nats, tokens, size]}})
    return made


def test_curves_are_bits_per_byte_of_all_bytes_near_a_step():
    curves = smooth(rows(), "language")
    assert curves.losses["hin_Deva"] == pytest.approx(np.ones_like(curves.steps))
    german = curves.losses["deu_Latn"]
    assert german[0] == pytest.approx(4, abs=0.2) and german[-1] == pytest.approx(2, abs=0.2)
    assert (np.diff(german) < 0).all()
    yoruba = curves.losses["yor_Latn"]
    assert np.isnan(yoruba[0]) and np.nanmax(yoruba) == pytest.approx(3)
    assert curves.bytes == {"deu_Latn": 4000, "hin_Deva": 2000, "yor_Latn": 20}
    # all texts together: weighted by bytes, so nearer to German than the mean of the three
    assert smooth(rows(), "all").losses["all"][-1] == pytest.approx((2 * 100 + 50) / 150, abs=0.1)


def test_the_picture_has_a_curve_for_each_language_and_names_them():
    drawn = ET.fromstring(picture(rows()))
    titles = [element.text for element in drawn.iter("title")]
    assert sorted(titles) == ["German", "Hindi", "Yoruba"]
    texts = " ".join(element.text or "" for element in drawn.iter("text"))
    assert "German" in texts and "all texts" in texts and "bits per byte" in texts
    assert next(name for name, *_ in small_multiples(rows(), "language")) == "hin_Deva"


def test_names_at_the_ends_of_curves_do_not_cover_each_other():
    crowded = [
        {"step": i, "language": {f"{x}_Latn": [70.0 + j, 10, 100] for j, x in enumerate(("deu", "fra", "ita", "spa"))},
         "task": {"vqa": [300.0, 40, 400]}} for i in (1, 2, 3)
    ]  # fmt: skip
    drawn = ET.fromstring(picture(crowded))
    right = sorted(float(e.get("y")) for e in drawn.iter("text") if e.get("class"))
    assert len(right) == 5 and min(np.diff(right)) >= 13.9


def test_the_file_is_whole_svg_with_its_own_colours(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(SystemExit, match=r"groups\.jsonl is not there"):
        main([str(tmp_path / "run"), "--out", str(tmp_path / "curves.svg")])
    drawn = standalone(rows())
    assert ET.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    assert "prefers-color-scheme: dark" in drawn


def test_tensorboard_gets_losses_by_language(tmp_path):
    board = Board(tmp_path, 0)
    row = {"step": 20, "loss": 1.5, "gradient_norm": 1.0, "lr": 1e-3, "target_tokens": 40}
    board.show(row, {"language": {"deu_Latn": [math.log(2) * 8, 2, 4]}, "task": {}})
    board.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Scalars("bits per byte by language/deu_Latn")[0].value == pytest.approx(2.0)
    assert events.Scalars("training/loss")[0].step == 20
