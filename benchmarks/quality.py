"""Which faults the quality filter catches and which good text it loses, on human translations that packages ship, with faults planted in them.

    python demo/translation_model/collect.py … --out pairs.parquet           # the texts, from installed packages
    python -m benchmarks.quality pairs.parquet                               # the table, on the half that nothing was learnt from
    python -m benchmarks.quality pairs.parquet --part calibrate              # the same on the half that was learnt from
    python -m benchmarks.quality pairs.parquet --leave-out                   # learnt anew without each source in turn, tested on it
    python -m benchmarks.quality --captions                                  # on everyday captions, of which nothing was learnt
    python -m benchmarks.quality pairs.parquet --speed                       # samples a second, memory, accept on a million scores

Texts are those of emoji names (CLDR), interfaces (LibreOffice, Django) and the Universal Declaration; names of countries and languages are left out.
The two halves are split by a hash of the English text, so no translation of a test text was learnt from. Beside the filter stands what people
use today: fastText's lid.176, top label, p >= 0.5. `--by-language FILE.md` writes the
page of docs/quality_by_language.md, `--details FILE.csv` every figure and which check rejected.
"""

import argparse
import csv
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.faults import FAULTS, HABITS, Planter
from pipeline import files
from pipeline.languages import BY_NLLB, LANGUAGES
from pipeline.quality.accept import accept, failures
from pipeline.quality.characters import column, numbers
from pipeline.quality.learn import NAMES, candidates_of, choose, learn, split
from pipeline.quality.learnt import LENGTHS
from pipeline.quality.lid import Contract, FastText, Identifier, _lines, default_model, load_identifier
from pipeline.quality.policy import Policy, parse_policy, read_policy
from pipeline.quality.score import score

SHOWN = {"1–3": (0, 1), "4–7": (2,), "8–15": (3,), "16+": (4,), "4 or more": (2, 3, 4)}
"""Classes of length of the table, in those of the policy."""
CAPTIONS = Path(__file__).with_name("captions.json")
LEAST_TEXTS = 5
"""Texts of a language from which its share counts in the average."""
LEAST_FOR_WORST = 20
"""Texts of a language from which it is shown as the worst."""

GOOD = "good text lost"
GOOD_WITH_NUMBERS = "good text with numbers lost"
AIMS = {"english_copy": 0.998, "other_language": 0.995, "loop": 0.98, "wrong_script": 0.999, "numbers": 0.95}


# --- measuring -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """Of texts of one kind: language, class of length, and what each filter rejects."""

    language: np.ndarray
    length: np.ndarray
    rejected: np.ndarray
    reasons: dict[str, np.ndarray]
    today: np.ndarray

    @property
    def languages(self) -> list[str]:
        return sorted(set(self.language.tolist()))

    def of(self, code: str, classes: tuple[int, ...]) -> np.ndarray:
        """Which texts are of a language and a length: bool [texts]."""
        return (self.language == code) & np.isin(self.length, classes)

    def shown(self, code: str, classes: tuple[int, ...], which: str, least: int = LEAST_TEXTS) -> float:
        """Rejected share of a language's texts of a length; NaN where they are fewer than `least`."""
        mine = self.of(code, classes)
        return float(getattr(self, which)[mine].mean()) if mine.sum() >= least else np.nan

    def share(self, classes: tuple[int, ...], which: str, worst_is_high: bool = True) -> tuple[float, str, float]:
        """Rejected share of a length, languages weighing the same; and the worst language, with its share."""
        shares = [self.shown(code, classes, which) for code in self.languages]
        mean = float(np.nanmean(shares)) if not np.isnan(shares).all() else np.nan
        sure = {code: self.shown(code, classes, which, LEAST_FOR_WORST) for code in self.languages}
        sure = {code: share for code, share in sure.items() if not np.isnan(share)}
        if not sure:
            return mean, "", np.nan
        worst = (max if worst_is_high else min)(sure, key=lambda code: sure[code])
        return mean, worst, sure[worst]


def judge(pairs: pa.Table, identifier: Identifier, policy: Policy) -> Measured:
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    scores = score(candidates_of(pairs), identifier, contracts)
    reasons = failures(scores, contracts, policy)
    order = np.argsort(numbers(pc.cast(scores["id"], pa.int64())), kind="stable")  # scores come grouped by language
    words = numbers(scores["source_words"])[order]
    return Measured(
        np.array(scores["language"].to_pylist())[order],
        np.digitize(words, LENGTHS),
        np.any(list(reasons.values()), axis=0)[order],
        {name: failed[order] for name, failed in reasons.items()},
        lid176_rejects(pairs),
    )


def lid176_rejects(pairs: pa.Table) -> np.ndarray:
    """What most pipelines do: keep a text when lid.176's top label is the language's and p >= 0.5. A language without a label loses all."""
    model = FastText(default_model())
    result = []
    for line, code in zip(_lines(pairs["text"]), pairs["language"].to_pylist(), strict=True):
        votes = model.vote(line) if line else []
        result.append(not votes or votes[0][0] != BY_NLLB[code].labels["lid176"] or votes[0][1] < 0.5)
    return np.array(result)


def with_texts(pairs: pa.Table, texts: list[str | None]) -> pa.Table:
    taken = pairs.filter(pa.array([t is not None for t in texts], pa.bool_()))
    position = taken.schema.get_field_index("text")
    return taken.set_column(position, "text", column([t for t in texts if t is not None]))


def prepare(pairs: pa.Table, each: int) -> pa.Table:
    running = pairs.filter(pc.invert(pc.is_in(pairs["source"], value_set=pa.array(sorted(NAMES)))))
    return choose(running, each)


def with_digits(pairs: pa.Table, each: int) -> pa.Table:
    """Good texts that have digits, as their English does."""
    has = pc.and_(*(pc.match_substring_regex(pairs[x], r"\p{Nd}") for x in ("english", "text")))
    return prepare(pairs.filter(has), each)


def captions() -> pa.Table:
    """The captions that were written for this project; nothing was learnt from them."""
    content = files.read_json(CAPTIONS)
    rows = [
        {"english": english, "language": code, "text": text, "source": "captions"}
        for code, texts in content["captions"].items()
        for english, text in zip(content["english"], texts, strict=True)
    ]
    return pa.Table.from_pylist(rows)


def on_captions() -> str:
    """The table for the captions, without kinds that need more texts, and good captions lost when they are written in other ways."""
    good, identifier, policy = captions(), load_identifier(None), read_policy()
    measured = measure(good, good.slice(0, 0), identifier, policy)
    measured = {name: found for name, found in measured.items() if name != FAULTS["swapped"]}
    lines = [f"| good captions lost, % of {good.num_rows:,} | |", "|---|---:|"]
    for name, habit in HABITS.items():
        written = [habit(*pair) for pair in zip(good["english"].to_pylist(), good["text"].to_pylist(), strict=True)]
        changed = pa.table(
            {
                **{x: good[x] for x in ("language", "source")},
                "english": [w[0] for w in written],
                "text": [w[1] for w in written],
            }
        )
        lines.append(f"| {name} | {percent(float(judge(changed, identifier, policy).rejected.mean()))} |")
    languages = len(set(good["language"].to_pylist()))
    return f"{good.num_rows:,} captions in {languages} languages:\n\n{table(measured)}\n\n" + "\n".join(lines)


def percent(value: float) -> str:
    return "–" if np.isnan(value) else f"{100 * value:.2f}" if value < 0.1 else f"{100 * value:.1f}"


def measure(good: pa.Table, with_numbers: pa.Table, identifier: Identifier, policy: Policy) -> dict[str, Measured]:
    """By kind: good text, and every fault that can be planted. Few texts have numbers, so `with_numbers` holds more of them."""
    planter, counter = Planter(good, identifier), Planter(with_numbers, identifier)
    kinds = {GOOD: good, GOOD_WITH_NUMBERS: with_numbers}
    for key, name in FAULTS.items():
        pairs, plant = (with_numbers, counter.plant) if key == "numbers" else (good, planter.plant)
        kinds[name] = with_texts(pairs, plant(key))
    return {name: judge(pairs, identifier, policy) for name, pairs in kinds.items() if pairs.num_rows}


def table(measured: dict[str, Measured]) -> str:
    """The Markdown table, % rejected, averaged over languages."""
    lengths = " | ".join(f"{x} words" for x in SHOWN)
    lines = [f"| % | {lengths} | worst language, 4 or more words | lid.176 p ≥ .5, 4 or more | aim |"]
    lines.append("|---|" + "---:|" * (len(SHOWN) + 2) + "---|")
    aims = {FAULTS[key]: f"≥ {100 * aim:.1f}" for key, aim in AIMS.items()} | {GOOD: "≤ 3, worst ≤ 15"}
    for name, found in measured.items():
        is_good = name in (GOOD, GOOD_WITH_NUMBERS)
        cells = [percent(found.share(classes, "rejected")[0]) for classes in SHOWN.values()]
        _, worst, share = found.share(SHOWN["4 or more"], "rejected", worst_is_high=is_good)
        today = found.share(SHOWN["4 or more"], "today")[0]
        shown = f"{percent(share)} ({BY_NLLB[worst].name})" if worst else "–"
        title = f"**{name}**" if is_good else name
        lines.append(f"| {title} | {' | '.join(cells)} | {shown} | {percent(today)} | {aims.get(name, '')} |")
    return "\n".join(lines)


def details(measured: dict[str, Measured], path: Path) -> None:
    """Every figure by kind, language and length, with the checks that rejected, as CSV."""
    with files.written_aside(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "language", "words", "texts", "rejected", "rejected_by_lid176", "reasons"])
        for name, found in measured.items():
            for code in found.languages:
                for length, classes in SHOWN.items():
                    mine = found.of(code, classes)
                    if mine.any():
                        reasons = {r: int(f[mine].sum()) for r, f in found.reasons.items() if f[mine].any()}
                        shares = [round(float(x[mine].mean()), 5) for x in (found.rejected, found.today)]
                        why = " ".join(f"{k}={v}" for k, v in reasons.items())
                        writer.writerow([name, code, length, int(mine.sum()), *shares, why])


BY_LANGUAGE = """\
# Quality by language

Written by `python -m benchmarks.quality pairs.parquet --by-language docs/quality_by_language.md`; [quality.md](quality.md#evidence) tells what
was measured on what. The half of the texts that nothing was learnt from; all figures in percent; – for fewer than {least} texts.

## Good text lost, by length in English words

Those that lose most come first. Beside each figure what lid.176 with p ≥ .5 would lose. `check`: how far the language can be told from others.

{lost}

## Faults caught, texts of 4 or more words

{caught}

## Faults caught, texts of 1–3 words

Little can be told of so short a text, and a copied English word may be a loanword.

{caught_short}
"""


def by_language(measured: dict[str, Measured], contracts: dict[str, Contract]) -> str:
    """The Markdown page with every language's figures."""
    good = measured[GOOD]
    order = sorted(
        good.languages, key=lambda code: (-_sortable(good.shown(code, SHOWN["4 or more"], "rejected")), code)
    )
    rows = []
    for code in order:
        cells = [
            f"{percent(good.shown(code, classes, 'rejected'))} / {percent(good.shown(code, classes, 'today'))}"
            for classes in SHOWN.values()
        ]
        texts = int(good.of(code, SHOWN["4 or more"]).sum())
        rows.append([BY_NLLB[code].name, code, contracts[code].check, f"{texts:,}", *cells])
    head = ["language", "code", "check", "texts of 4 or more", *(f"{x} words" for x in SHOWN)]
    faults = [name for name in FAULTS.values() if name in measured]
    pages = {
        key: markdown(
            ["language", *faults],
            [
                [BY_NLLB[c].name, *(percent(measured[f].shown(c, SHOWN[length], "rejected")) for f in faults)]
                for c in order
            ],
        )
        for key, length in (("caught", "4 or more"), ("caught_short", "1–3"))
    }
    return BY_LANGUAGE.format(least=LEAST_TEXTS, lost=markdown(head, rows), **pages)


def _sortable(share: float) -> float:
    return -1.0 if np.isnan(share) else share


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def leave_out(pairs: pa.Table, each: int) -> str:
    """Everything learnt anew without one source, and tested on it."""
    voters = load_identifier(None).voters
    sources = [s for s in sorted(set(pairs["source"].to_pylist())) if s not in NAMES]
    blocks = []
    for source in sources:
        is_source = pc.equal(pairs["source"], source)
        found, content = learn(pairs.filter(pc.invert(is_source)), voters)
        policy = parse_policy(content, "learnt")
        tested, counted = prepare(pairs.filter(is_source), each), with_digits(pairs.filter(is_source), each)
        blocks.append(
            f"Tested on {source}, learnt from the others:\n\n{table(measure(tested, counted, Identifier(voters, found), policy))}\n"
        )
    return "\n".join(blocks)


# --- speed -----------------------------------------------------------------------------------------------------------------------------


def _score_some(arguments: tuple[pa.Table, str]) -> tuple[int, float, int]:
    """Score a table in this process: samples, seconds of CPU, peak memory in MiB."""
    candidates, what = arguments
    identifier = load_identifier(None)
    contracts = identifier.resolve([x.nllb for x in LANGUAGES])
    score(candidates.slice(0, 200), identifier, contracts)  # load the models
    start = time.process_time()
    if what == "all":
        score(candidates, identifier, contracts)
    else:
        model = FastText(default_model())
        texts = [f[0]["text"] for f in candidates["fields"].to_pylist()]
        start = time.process_time()
        for line in _lines(column(texts)):
            model.vote(line)
    seconds = time.process_time() - start
    return candidates.num_rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def speed(pairs: pa.Table, rows: int) -> str:
    good = candidates_of(prepare(pairs, 60))
    lines = [
        "| in one process, and in two side by side | samples | a second of one core | two: a second of CPU time, together | peak memory |",
        "|---|---:|---:|---:|---:|",
    ]
    context = multiprocessing.get_context("spawn")
    for name, what, some in (
        ("fastText lid.176 alone", "fasttext", good),
        ("all signals", "all", good),
        ("all signals, five times as many", "all", pa.concat_tables([good] * 5)),
    ):
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            samples, seconds, memory = pool.submit(_score_some, (some, what)).result()
        halves = [some.slice(0, samples // 2), some.slice(samples // 2)]
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            both = list(pool.map(_score_some, [(half, what) for half in halves]))
        together = samples / max(b[1] for b in both)
        lines.append(f"| {name} | {samples:,} | {samples / seconds:,.0f} | {together:,.0f} | {memory:,} MiB |")
    lines += [
        "",
        "| `python -m pipeline.quality`, start and files included | rows | seconds | rows a second | seconds of CPU | peak memory of a process |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for number, processes in ((rows // 10, 1), (rows // 10, 2), (rows, 2)):
        seconds, cpu, memory = _run_tool(prepare(pairs, 60), number, processes)
        name = "1 process" if processes == 1 else f"{processes} processes"
        lines.append(
            f"| {name} | {number:,} | {seconds:,.0f} | {number / seconds:,.0f} | {cpu:,.0f} | {memory:,} MiB |"
        )
    identifier = load_identifier(None)
    scores = score(good, identifier, contracts := identifier.resolve([x.nllb for x in LANGUAGES]))
    million = pa.concat_tables([scores] * (1_000_000 // scores.num_rows + 1)).slice(0, 1_000_000)
    million = million.set_column(0, "id", pa.array([f"example:{i}@x" for i in range(1_000_000)]))
    start, cpu_start = time.perf_counter(), time.process_time()
    accept(million, contracts, read_policy())
    spent, waited = time.process_time() - cpu_start, time.perf_counter() - start
    lines.append(f"\n`accept` on a million stored scores: {spent:.1f} s of CPU, {waited:.1f} s in all.")
    return "\n".join(lines)


def _run_tool(pairs: pa.Table, rows: int, processes: int) -> tuple[float, float, int]:
    """Judge a Parquet file of so many pairs, languages mixed, as a user would: seconds, seconds of CPU of all its processes, and the most memory
    (MiB) that one of them took."""
    order = np.random.default_rng(0).integers(0, pairs.num_rows, rows)
    taken = pairs.select(["english", "text", "language"]).rename_columns(["source", "text", "language"])
    with tempfile.TemporaryDirectory() as folder:
        files.write_table(Path(folder) / "in.parquet", taken.take(pa.array(order)))
        command = [sys.executable, "-m", "pipeline.quality", f"{folder}/in.parquet", f"{folder}/out.parquet"]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--processes", str(processes)], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__.splitlines()[0])
    parser.add_argument("pairs", type=Path, nargs="?", help="Parquet of demo/translation_model/collect.py")
    parser.add_argument("--part", choices=["test", "calibrate"], default="test")
    parser.add_argument("--each", type=int, default=60, help="texts of each language, source and class of length")
    parser.add_argument("--leave-out", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of --speed: rows of the largest file")
    parser.add_argument("--details", type=Path, help="write every figure by language to this CSV")
    parser.add_argument(
        "--by-language", type=Path, help="write the page with every language's figures to this Markdown file"
    )
    parser.add_argument(
        "--captions", action="store_true", help="test on benchmarks/captions.json instead; needs no pairs"
    )
    options = parser.parse_args(arguments)
    if not options.captions and options.pairs is None:
        parser.error("pairs are needed: Parquet of demo/translation_model/collect.py")
    sys.stdout.write(run(options) + "\n")
    return 0


def run(options: argparse.Namespace) -> str:
    if options.captions:
        return on_captions()
    pairs = files.read_table(options.pairs)
    learning, testing = split(pairs)
    if options.speed:
        return speed(testing, options.rows)
    if options.leave_out:
        return leave_out(pairs, options.each)
    part = testing if options.part == "test" else learning
    good, with_numbers = prepare(part, options.each), with_digits(part, options.each)
    identifier = load_identifier(None)
    measured = measure(good, with_numbers, identifier, read_policy())
    if options.details:
        details(measured, options.details)
    if options.by_language:
        contracts = identifier.resolve([x.nllb for x in LANGUAGES])
        files.write_text(options.by_language, by_language(measured, contracts))
    languages = len(set(good["language"].to_pylist()))
    return f"{good.num_rows:,} texts in {languages} languages, part {options.part}:\n\n{table(measured)}"


if __name__ == "__main__":
    sys.exit(main())
