"""Real sentences in nine scripts, by hand, and a way to put them through everything."""

import pyarrow as pa
import pytest

from pipeline.corpus import CANDIDATES
from pipeline.quality.accept import accept, read_policy
from pipeline.quality.lid import load_identifier
from pipeline.quality.score import score

ENGLISH_TEXT = 'The sign says: "Open from 9 to 17 (not on Sundays)."'
REAL = {
    "deu_Latn": "Auf dem Schild steht: „Geöffnet von 9 bis 17 Uhr (nicht sonntags).“",
    "rus_Cyrl": "На вывеске написано: «Открыто с 9 до 17 (кроме воскресенья).»",
    "ell_Grek": "Η πινακίδα γράφει: «Ανοιχτά από 9 έως 17 (όχι τις Κυριακές).»",
    "arb_Arab": "مكتوب على اللافتة: «مفتوح من ٩ إلى ١٧ (ما عدا الأحد).»",
    "hin_Deva": "बोर्ड पर लिखा है: “९ से १७ बजे तक खुला (रविवार को नहीं)।”",
    "zho_Hans": "牌子上写着：“9点到17点营业（周日除外）。”",
    "jpn_Jpan": "看板には「営業時間は9時から17時まで（日曜を除く）。」と書いてある。",
    "kor_Hang": '표지판에는 "9시부터 17시까지 영업(일요일 제외)."이라고 쓰여 있다.',
    "tha_Thai": "ป้ายเขียนว่า “เปิดตั้งแต่ 9 ถึง 17 นาฬิกา (ยกเว้นวันอาทิตย์)”",
    "heb_Hebr": 'על השלט כתוב: "פתוח מ-9 עד 17 (לא בימי ראשון)."',
}


@pytest.fixture(scope="session")
def identifier():
    return load_identifier(None)


@pytest.fixture(scope="session")
def contracts(identifier):
    from pipeline.mix import LanguagesConfig

    return identifier.resolve(LanguagesConfig().targets)


def candidate(language, fields, task="captioning", name="s", status="translated", log_probability=-1.0, unknown=0):
    """A row of CANDIDATES; `fields`: (role, source, text)."""
    return {
        "id": f"{name}@{language}",
        "example": name,
        "source": "test",
        "task": task,
        "language": language,
        "fields": [dict(zip(("role", "source", "text"), field, strict=True)) for field in fields],
        "status": status,
        "log_probability": log_probability,
        "unknown_tokens": unknown,
    }


@pytest.fixture(scope="session")
def judge(identifier, contracts):
    """A function from candidates to the reason of each ("" when it is kept), by id."""

    def judge(*candidates):
        scores = score(pa.Table.from_pylist(list(candidates), schema=CANDIDATES), identifier, contracts)
        return {v["id"]: v["reason"] for v in accept(scores, contracts, read_policy()).to_pylist()}

    return judge
