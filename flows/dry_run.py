"""`--dry-run`: the plan and its cost on this machine, before any work. Writes nothing."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from flows import steps
from flows.run import Run
from pipeline.estimate import BYTES_PER_SENTENCE, estimate
from pipeline.languages import BY_NLLB, ENGLISH
from pipeline.plan import overview
from pipeline.requests import Segmenter, unanswered, wanted_sentences
from pipeline.sources.read import read_examples


def spell_time(seconds: float) -> str:
    """12 s, 3 min, 5.2 h or 3.1 days."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}" if unit != "h" else f"{seconds / size:.1f} h"
    return f"{seconds / 86400:.1f} days"


def short_answer_lines(run: Run, planned: dict[str, list[dict[str, Any]]], seconds_each: float) -> list[str]:
    """What the short answers add. How many will be translated back is known only after the translation; this is the most."""
    segmenter, rule = Segmenter(), run.short_answers
    counts: Counter[str] = Counter()
    joint, alone = set(), set()
    for language, rows in planned.items():
        for row in rows if language != ENGLISH else ():
            for place in range(len(row["fields"])):
                if (asked := rule.asked(row["fields"], place, segmenter)) and asked.answer:
                    if rule.glossary.find(language, asked.answer):
                        counts["glossary"] += 1
                    else:
                        counts["checked"] += 1
                        alone.add((language, asked.answer))
                        if asked.joint:
                            joint.add((language, asked.joint))
    if not counts.total():
        return []
    lines = [f"{counts.total():,} short answers: {counts['glossary']:,} by the glossary"]
    if run.short_answers.check == "alone":
        return [f"{lines[0]}, the others as they are translated alone."]
    lines[0] += (
        f", {counts['checked']:,} checked by {len(joint):,} of the sentences above, which hold question and answer together."
    )
    if run.short_answers.back_translation:
        most = spell_time(len(alone) * seconds_each)
        lines.append(f"At most {len(alone):,} more are translated back into English (at most {most}).")
    return lines


def dry_run(run: Run, write: Callable[[str], Any]) -> None:
    """Print what each language gets, what is in the memory already, and what the rest will cost."""
    stages = run.stages()
    if stages["examples"].is_done():
        examples, unusable = steps.table(run, "examples", "examples"), steps.table(run, "examples", "ledger").num_rows
        given = steps.table(run, "examples", "given")
    else:
        examples, ledger, _, given = read_examples(run.mix)
        unusable = ledger.num_rows
    plan = steps.plan_table(run, examples, given)
    texts = steps.planned(run, examples, plan, given)
    wanted = wanted_sentences(texts, run.engine.key, Segmenter(), run.short_answers)
    new = unanswered(wanted, run.memory)
    cost = estimate(run.engine, new)
    counts = [Counter(t["language"].to_pylist()) for t in (plan, wanted, new)]
    tasks = ", ".join(f"{n} {task}" for task, n in Counter(examples["task"].to_pylist()).items())
    model = (
        f"{run.mix.translation.model}, {run.engine.compute_type} on {run.engine.device}, beam {run.engine.beam_size}"
        f"{', with vocabulary maps' if run.engine.maps else ''}"
    )
    write(f"{run.mix.name}: {examples.num_rows:,} examples ({tasks}), {unusable:,} unusable\nmodel {model}\n\n")
    table = overview(examples, plan, run.mix.languages, run.mix.sources)
    for line in (*table.lines(), "", *table.grid()):
        write(f"{line}\n")
    write("\n")
    head = f"{'examples':>9} {'sentences':>10} {'new':>9} {'tokens':>10} {'time':>8}  language check"
    write(f"{'language':<30} {head}\n")
    for code in run.languages:
        check = run.contracts[code].check if code in run.contracts else "the source's own"
        numbers = f"{counts[0][code]:>9,} {counts[1][code]:>10,} {counts[2][code]:>9,} {cost.tokens.get(code, 0):>10,}"
        write(f"{code:<10} {BY_NLLB[code].name:<19} {numbers} {spell_time(cost.seconds_of(code)):>8}  {check}\n")
    totals = f"{plan.num_rows:>9,} {wanted.num_rows:>10,} {new.num_rows:>9,} {sum(cost.tokens.values()):>10,}"
    write(f"{'all':<30} {totals} {spell_time(cost.seconds):>8}\n\n")
    write(f"{new.num_rows:,} sentences would be translated; {wanted.num_rows - new.num_rows:,} are in the memory.\n")
    if new.num_rows:
        megabytes = new.num_rows * BYTES_PER_SENTENCE / 1e6
        write(
            f"About {spell_time(cost.seconds)} for the translation, by {cost.probed} sentences decoded here just now, "
        )
        write(f"and {megabytes:,.1f} MB more in the memory.\n")
    for line in short_answer_lines(run, texts, cost.seconds / max(1, new.num_rows)):
        write(f"{line}\n")
    if cost.too_long:
        limit = run.engine.max_source_tokens
        write(f"{cost.too_long:,} sentences have more than {limit} tokens and will be translated in parts.\n")
    if lacking := {code: share for code, share in cost.unknown_share.items() if share >= 0.05}:
        worst = ", ".join(f"{BY_NLLB[c].name} {s:.0%}" for c, s in sorted(lacking.items(), key=lambda x: -x[1])[:8])
        write(
            f"WARNING: the model lacks characters of {len(lacking)} languages (share of probed sentences with <unk>): {worst}.\n"
        )
    if last := steps.translation_time(run):
        write(f"The last run here took {spell_time(last['seconds'])} for {last['sentences']:,} sentences")
        write(
            f"; the probe before it said {spell_time(last['estimated_seconds'])}.\n"
            if last["estimated_seconds"]
            else ".\n"
        )
    done = [name for name, stage in stages.items() if stage.is_done()]
    write(f"Stages done already: {', '.join(done) or 'none'}. Nothing was written.\n")
