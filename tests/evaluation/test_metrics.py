"""Each metric against a value worked out by hand or another library's."""

import math
from collections import Counter

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF

from evaluation import metrics, refclip
from evaluation.vqa_clean import clean
from evaluation.words import SEGMENTERS, describe, split_words
from pipeline.languages import find_language

SENTENCES = {
    "zh": ("一只狗，在跑3次ABC。", ["一", "只", "狗", "在", "跑", "3", "次", "abc"]),
    "ja": ("犬が公園で走っている。", ["犬", "が", "公園", "で", "走っ", "て", "いる"]),
    "th": ("ฉันรักแมว", ["ฉัน", "รัก", "แมว"]),
    "km": ("ឆ្កែរត់នៅសួន", ["ឆ្កែ", "រត់", "នៅ", "សួន"]),
    "lo": ("ພາສາລາວ ແມ່ນພາສາ", ["ພາສາລາວ", "ແມ່ນ", "ພາສາ"]),
    "my": ("ခွေးက ပန်းခြံထဲမှာ ပြေးနေတယ်။", ["ခွေး", "က", "ပန်းခြံ", "ထဲမှာ", "ပြေး", "နေ", "တယ်"]),
    "de": ("Ein Hund läuft, nicht wahr?", ["ein", "hund", "läuft", "nicht", "wahr"]),
    "ar": ("كلب يركض في الحديقة.", ["كلب", "يركض", "في", "الحديقة"]),
    "hi": ("कुत्ता दौड़ रहा है।", ["कुत्ता", "दौड़", "रहा", "है"]),
    "en": ("It isn't a well-known dog.", ["it", "isn't", "a", "well-known", "dog"]),
}


@pytest.mark.parametrize("code", SENTENCES)
def test_words_of_ten_languages_in_nine_scripts(code):
    text, words = SENTENCES[code]
    assert [x.replace("\u093c", "") for x in split_words(text, find_language(code))] == [
        x.replace("\u093c", "") for x in words
    ]


def test_segmenters_are_those_of_the_paper():
    """Sudachi's short units, where the long one would be one word; newmm, where pythainlp's `longest` would split before the sixth letter."""
    assert split_words("国家公務員", find_language("ja")) == ["国家", "公務", "員"]
    assert split_words("โคลงเรือ", find_language("th")) == ["โค", "ลงเรือ"]


def test_the_paper_splits_only_chinese_japanese_and_thai():
    text, words = SENTENCES["km"]
    assert split_words(text, find_language("km"), "paper") == ["".join(words)]
    assert len(split_words(*(SENTENCES["th"][0], find_language("th"), "paper"))) == 3


def test_segmenters_are_named_with_their_versions():
    named = describe([find_language(code) for code in SENTENCES])
    assert len(named) == len(SEGMENTERS) and named["Chinese"] == "by character"
    assert "sudachidict-core" in named["Japanese"] and any(x.isdigit() for x in named["Burmese"])


def test_composed_and_decomposed_text_give_the_same_words():
    assert split_words("caf\u0065\u0301", None) == split_words("caf\u00e9", None)


def test_cider_is_ten_for_equal_texts_of_unlike_items_and_empty_outputs_get_nothing():
    """Hand-worked: cosine 1 for every n-gram order, times 10 (Vedantam et al.), times 100 here."""
    references = [[["a", "dog", "runs", "fast"]], [["two", "cats", "sit", "here"]], [["one", "red", "old", "car"]]]
    scores = metrics.caption_scores([references[0][0], [], references[2][0]], references)
    assert scores["cider"].tolist() == pytest.approx([1000, 0, 1000])
    assert scores["rouge_l"].tolist() == pytest.approx([100, 0, 100])


def test_cider_s_document_frequency_and_length_penalty_by_hand():
    """One shared word of two, unigrams only: idf ln(2/1) each, cosine 1/2; orders 2 to 4 share nothing. 1/2 · 1/4 · 10 · 100 = 125."""
    scores = metrics.caption_scores([["a", "dog"], ["the", "cat"]], [[["a", "cow"]], [["x", "y"]]])
    assert scores["cider"][0] == pytest.approx(125)


def test_bleu_and_rouge_by_hand():
    reference = ["the", "cat", "sat", "on", "the", "mat"]
    scores = metrics.caption_scores([["the", "cat", "sat", "on", "a", "mat"]], [[reference]])
    assert scores["rouge_l"][0] == pytest.approx(100 * 5 / 6, abs=0.01)
    expected = (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert scores["bleu_4"][0] == pytest.approx(100 * expected, abs=0.01)


def test_chrf_takes_unequal_numbers_of_references():
    assert metrics.chrf(["ein Hund"], [["ein Hund", "Hund"]]) == 100
    ours = metrics.chrf(["a dog", "two cats"], [["a dog runs"], ["cats", "two cats"]])
    theirs = CHRF().corpus_score(["a dog", "two cats"], [["a dog runs", "cats"], ["a dog runs", "two cats"]]).score
    assert ours == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("answer", "cleaned"),
    [("The two Dogs.", "2 dogs"), ("none", "0"), ("yes, it is", "yes it is"), ("black/white", "black white"), ("3,000", "3000"),
     ("4.5 m", "4.5 m"), ("dont know", "don't know"), ("ten-inch", "10 inch"), (" An  apple! ", "apple"), ("well - known", "well known"),
     ("U.S. flag", "us flag"), ("two\ndogs", "twodogs")],
)  # fmt: skip
def test_the_official_cleaning(answer, cleaned):
    assert clean(answer) == cleaned


def test_cleaning_is_part_of_the_protocol_and_exact_match_means_exact():
    assert metrics.exact_match(metrics.tidy("The two.", "vqa"), ["2"]) == 100
    assert metrics.exact_match(metrics.tidy("The two.", "strip"), ["2"]) == 0
    assert metrics.exact_match(metrics.tidy(" Un Chat ", "strip"), ["chat", "un chat"]) == 100
    assert metrics.exact_match("chats", ["chat"]) == 0 and metrics.relaxed_match("chats", ["chat"]) == 100
    assert metrics.relaxed_match("un chat", ["chat"]) == 100 and metrics.relaxed_match("un chat noir", ["chat"]) == 0


def test_pope_by_hand():
    assert [metrics.pope_answer(x) for x in ("No, there is none", "Yes. It is not hot", "It is not", "nothing")] == [
        "no",
        "yes",
        "no",
        "yes",
    ]
    scores = metrics.yes_no_scores(["yes", "yes", "yes", "no", "no"], ["yes", "no", "no", "yes", "no"])
    wanted = {"accuracy": 40, "precision": 100 / 3, "recall": 50, "f1_yes": 40, "yes_ratio": 60}
    assert scores == pytest.approx(wanted)


CLASSES = {"man": "person", "person": "person", "bird": "bird", "bench": "bench", "bus": "bus", "traffic light": "traffic light", "seat": "chair",
           "toilet": "toilet", "cup": "cup", "knife": "knife"}  # fmt: skip


@pytest.mark.parametrize(
    ("caption", "objects"),
    [("Two men and a baby bird on benches", ["person", "bird", "bench"]), ("Buses at a traffic light", ["bus", "traffic light"]),
     ("the toilet seat and cups", ["toilet", "cup"]), ("a toilet with a seat", ["toilet"]), ("knives", ["knife"])],
)  # fmt: skip
def test_chair_finds_objects(caption, objects):
    assert metrics.objects_in(caption, CLASSES) == objects


def test_chair_by_hand():
    scores = metrics.chair_scores(["a man and a bus", "a bird"], [["man"], ["bird", "cup"]], CLASSES)
    assert scores["chair_i"] == pytest.approx(100 / 3) and scores["chair_s"] == 50
    assert scores["recall"] == pytest.approx(200 / 3)


def test_the_bootstrap_draws_groups_and_not_items():
    values = np.array([100.0] * 50 + [0.0] * 50)
    alone = metrics.bootstrap(values, [str(i) for i in range(100)])
    paired = metrics.bootstrap(values, ["a"] * 50 + ["b"] * 50)
    assert 35 < alone.low < 45 and 55 < alone.high < 65
    assert (paired.low, paired.high) == (0, 100)


def test_the_macro_average_counts_languages_once_with_and_without_english():
    assert metrics.macro({"en": 90, "de": 30, "zh": 0}) == {"all": 40, "without_english": 15, "english": 90}
    assert "english" not in metrics.macro({"de": 1.0})


def test_ref_clip_score_by_hand():
    image, caption = np.array([1.0, 0.0]), np.array([3.0, 4.0])  # cosine .6
    clip, reference = refclip.ref_clip_score(image, caption, np.array([[0.0, 2.0], [1.0, 0.0]]))  # cosines .8 and .6
    assert clip == pytest.approx(150) and reference == pytest.approx(100 * 2 * 1.5 * 0.8 / 2.3)


def test_cider_is_as_published_for_an_example():
    """The example of aac-metrics' README (0.6.0), whose CIDEr-D is that of coco-caption: 1.3641 and 0.5587, after its PTB tokenizer."""
    outputs = ["a man is speaking", "rain falls"]
    references = [
        ["a man speaks.", "someone speaks.", "a man is speaking while a bird is chirping in the background"],
        ["rain is falling hard on a surface"],
    ]
    words = [split_words(text, find_language("en")) for text in outputs]
    of_references = [[split_words(text, find_language("en")) for text in texts] for texts in references]
    assert metrics.caption_scores(words, of_references)["cider"].tolist() == pytest.approx([136.41, 55.87], abs=0.005)


def cider_d_by_definition(outputs, references):
    """CIDEr-D of each item, from the formulas of Vedantam et al. 2015, section 3 and 6: term weights tf · ln(items / document frequency), for each
    n-gram order the clipped cosine with every reference times exp(−(length difference)² / (2 · 6²)), mean over references and orders, times 10."""

    def ngrams(words, n):
        return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))

    totals = np.zeros(len(outputs))
    for n in range(1, 5):
        frequency = Counter(gram for texts in references for gram in {g for words in texts for g in ngrams(words, n)})

        def weights(words, n=n, frequency=frequency):
            idf = {gram: math.log(len(outputs) / max(1, frequency[gram])) for gram in ngrams(words, n)}
            return {gram: count * idf[gram] for gram, count in ngrams(words, n).items()}

        def norm(vector):
            return math.sqrt(sum(x * x for x in vector.values()))

        for i, (output, texts) in enumerate(zip(outputs, references, strict=True)):
            own = weights(output)
            for text in texts:
                other = weights(text)
                clipped = sum(min(own[g], other[g]) * other[g] for g in own.keys() & other.keys())
                length = math.exp(-((len(output) - len(text)) ** 2) / 72)
                if norm(own) * norm(other):
                    totals[i] += 10 * length * clipped / norm(own) / norm(other) / len(texts) / 4
    return 100 * totals


SIX_SCRIPTS = {
    "en": (["a brown dog runs on the wet sand", "two cats sleep"], [["a brown dog runs on sand", "the dog runs"], ["two cats are sleeping"]]),
    "ru": (["собака бежит по мокрому песку", "две кошки спят"], [["бурая собака бежит по мокрому песку"], ["две кошки спят", "спят кошки"]]),
    "ar": (["كلب بني يركض على الرمل", "قطتان نائمتان"], [["كلب بني يركض على العشب"], ["قطتان نائمتان", "قطط"]]),
    "hi": (["भूरा कुत्ता रेत पर दौड़ रहा है", "दो बिल्लियाँ"], [["कुत्ता रेत पर दौड़ रहा है"], ["दो बिल्लियाँ सो रही हैं"]]),
    "zh": (["一只狗在沙滩上跑", "两只猫在睡觉"], [["一只棕色的狗在沙滩上奔跑"], ["两只猫在睡觉", "猫睡了"]]),
    "th": (["หมาสีน้ำตาลวิ่งบนทราย", "แมวสองตัวนอน"], [["หมาสีน้ำตาลวิ่งบนหาดทราย"], ["แมวสองตัวกำลังนอน"]]),
}  # fmt: skip


@pytest.mark.parametrize("code", SIX_SCRIPTS)
def test_cider_bleu_and_rouge_in_six_scripts_against_the_definition_and_another_library(code):
    outputs, references = SIX_SCRIPTS[code]
    words = [split_words(text, find_language(code)) for text in outputs]
    texts = [[split_words(text, find_language(code)) for text in of] for of in references]
    scores = metrics.caption_scores(words, texts)
    assert scores["cider"] == pytest.approx(cider_d_by_definition(words, texts), rel=1e-6)
    most = max(map(len, texts))
    streams = [[" ".join(of[k]) if k < len(of) else None for of in texts] for k in range(most)]
    theirs = BLEU(tokenize="none", smooth_method="none", force=True).corpus_score([" ".join(x) for x in words], streams)
    assert scores["bleu_4"][0] == pytest.approx(theirs.score, abs=1e-4) and theirs.score > 1

    def longest_common(a, b):
        rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
        for i, x in enumerate(a):
            for j, y in enumerate(b):
                rows[i + 1][j + 1] = rows[i][j] + 1 if x == y else max(rows[i][j + 1], rows[i + 1][j])
        return rows[-1][-1]

    for i, (output, of) in enumerate(
        zip(words, texts, strict=True)
    ):  # ROUGE-L: best precision and best recall, F with beta 1.2 (COCO's)
        precision, recall = (max(longest_common(output, t) / len(x) for t, x in pairs) for pairs in
                             ([(t, output) for t in of], [(t, t) for t in of]))  # fmt: skip
        f = 2.44 * precision * recall / (recall + 1.44 * precision) if precision and recall else 0
        assert scores["rouge_l"][i] == pytest.approx(100 * f)
