"""Names, abbreviations and quoted words may stay English; English sentences may not."""

import pytest

from pipeline.quality.characters import column
from pipeline.quality.names import without_names

from .conftest import candidate

SIGN = 'A sign that says "NO PARKING" on a wall.'
BRANDS = "A man wearing a Nike shirt and Adidas shoes."
PHONE = "An iPhone 12 Pro next to a MacBook Air."
GOOD = [
    (SIGN, "deu_Latn", "Ein Schild mit der Aufschrift „NO PARKING“ an einer Wand."),
    (SIGN, "zho_Hans", "墙上写着“NO PARKING”的牌子。"),
    (SIGN, "jpn_Jpan", "壁に「NO PARKING」と書かれた標識。"),
    (SIGN, "rus_Cyrl", "Табличка с надписью «NO PARKING» на стене."),
    (SIGN, "kor_Hang", '벽에 "NO PARKING"이라고 쓰인 표지판.'),
    (SIGN, "arb_Arab", 'لافتة على الحائط مكتوب عليها "NO PARKING".'),
    (SIGN, "hin_Deva", 'दीवार पर "NO PARKING" लिखा हुआ बोर्ड।'),
    ('A shop called "Happy Birthday Cakes and More"', "tha_Thai", 'ร้านชื่อ "Happy Birthday Cakes and More"'),
    ('A shop called "Happy Birthday Cakes and More"', "spa_Latn", "Una tienda llamada «Happy Birthday Cakes and More»"),
    (BRANDS, "rus_Cyrl", "Мужчина в футболке Nike и кроссовках Adidas."),
    (BRANDS, "zho_Hans", "一名男子穿着Nike衬衫和Adidas鞋。"),
    (BRANDS, "ell_Grek", "Ένας άντρας με μπλούζα Nike και παπούτσια Adidas."),
    (PHONE, "zho_Hans", "一部iPhone 12 Pro放在MacBook Air旁边。"),
    (PHONE, "jpn_Jpan", "MacBook Airの隣にあるiPhone 12 Pro。"),
    (PHONE, "rus_Cyrl", "iPhone 12 Pro рядом с MacBook Air."),
    ("A DJ in a club", "deu_Latn", "Ein DJ in einem Club"),
    ("Taylor Swift sings in London.", "spa_Latn", "Taylor Swift canta en Londres."),
]


def left(source, text):
    found = without_names(column([source]), column([text]))
    return tuple(" ".join(x[0].as_py().split()) for x in found)


def test_good_captions_with_names_and_quotes_are_kept(judge):
    found = judge(*(candidate(code, [("caption", s, t)], name=str(i)) for i, (s, code, t) in enumerate(GOOD)))
    assert set(found.values()) == {""}, {k: v for k, v in found.items() if v}


@pytest.mark.parametrize(
    "language", ["deu_Latn", "rus_Cyrl", "arb_Arab", "hin_Deva", "zho_Hans", "kor_Hang", "swh_Latn"]
)
def test_their_english_copies_are_not(judge, language):
    sources = sorted({s for s, _, _ in GOOD if s != "A DJ in a club"})
    found = judge(*(candidate(language, [("caption", s, s)], name=s) for s in sources))
    assert set(found.values()) <= {"source_copy", "wrong_script"}, found


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        (BRANDS, "NikeのシャツとAdidasの靴", ("A man wearing a shirt and shoes.", "のシャツと の靴")),
        ('He said: "Stop it!" and ran.', "Er rief „Stop it!“ und lief.", ("He said: \" !\" and ran.", "Er rief „ !“ und lief.")),
        ("A dog runs. Children play.", "Children A dog", ("A dog runs. Children play.", "Children A dog")),
        ("Insert Page Break Before Table", "Insert Page", ("Insert Page Break Before Table", "Insert Page")),
        ("A DOG RUNS ON A BEACH", "A DOG", ("A DOG RUNS ON A BEACH", "A DOG")),
        ("Then I saw the cat", "I cat", ("Then I saw the cat", "I cat")),
        ("An iPhone", "iPhone", ("", "")),
        ('"Stop here"', "Stop here", ('"Stop here"', "Stop here")),
    ],
)  # fmt: skip
def test_what_is_left_without_names(source, text, expected):
    assert left(source, text) == expected
