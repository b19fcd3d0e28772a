"""The report as Markdown and as JSON: the same facts as the HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import lrf
from lrf.types import JSON
from lrf_report.files import clean, whole

CELL = 400
"""Characters of a text in a table of Markdown."""


def write_json(run: lrf.ScoredRun, besides: Mapping[str, JSON], output: Path) -> list[Path]:
    """``{"samples": [...], "overview": {...}, "comparison": ..., "audit": ...}``, a line a sample; returns the file."""
    figures = run.figures()
    with whole(output) as file:
        file.write('{"samples": [')
        for number, sample in enumerate(run):
            figures.add(sample)
            file.write(",\n" if number else "\n")
            file.write(clean(json.dumps(sample.facts(words=True), ensure_ascii=False)))
        rest = {"overview": figures.as_json(), **besides}
        file.write(f"\n], {clean(json.dumps(rest, ensure_ascii=False))[1:]}\n")
    return [output]


def write_markdown(run: lrf.ScoredRun, besides: Mapping[str, JSON], output: Path) -> list[Path]:
    """Figures, then each sample with its candidates and what cost them points; returns the file."""
    figures = run.figures()
    samples = output.with_name(f".{output.name}.samples")
    try:  # the samples come after the figures, which are known when all samples have been read
        with whole(samples) as file:
            for sample in run:
                figures.add(sample)
                file.write(clean("\n".join(_sample(sample))) + "\n")
        with whole(output) as file:
            file.write(clean("\n".join(_overview(figures.as_json()))) + "\n")
            if besides["audit"] is not None:
                file.write(clean("\n".join(_audit(besides["audit"]))) + "\n")
            if besides["comparison"] is not None:
                file.write(clean("\n".join(_comparison(besides["comparison"]))) + "\n")
            file.write("\n## Samples\n")
            with samples.open(encoding="utf-8", newline="\n") as lines:
                file.writelines(lines)
    finally:
        samples.unlink(missing_ok=True)
    return [output]


def code(value: object) -> str:
    """Text of the data as code, so that nothing in it is markup; on one line, shortened."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())
    flat = flat.replace("|", "¦").replace("`", "'")
    return f"`{flat[:CELL] + ' …' if len(flat) > CELL else flat or '–'}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _number(value: JSON) -> str:
    return "–" if value is None else f"{value:.2f}"


def _overview(figures: Mapping[str, JSON]) -> Iterator[str]:
    run = figures["run"]
    yield f"# {code(run['name'])}\n"
    alarms = [m for m in (run["message"], run["without_texts"], *figures["alarms"]) if m]
    yield from ["## Alarms\n", *(f"- {code(alarm)}" for alarm in alarms or ["none"])]
    yield "\n## What ran"
    yield from _table(
        ("figure", "value"),
        [
            ("status", code(run["status"])),
            *((f"judge {code(judge['name'])}", code(f"{judge['type']} {judge['model']}")) for judge in run["judges"]),
            ("lrf", code(run["lrf"])),
            *((f"{stage}: {name.replace('_', ' ')}", code(n)) for stage, of in figures["counts"].items()
              for name, n in of.items() if isinstance(n, int)),
        ],
    )  # fmt: skip
    if figures["unscored"]:
        yield "## Unscored"
        why = [(code(u["dimension"]), code(u["reason"]), str(u["candidates"]), u["sentence"], code(u["help"]))
                for u in figures["unscored"]]  # fmt: skip
        yield from _table(("dimension", "reason", "candidates", "what happened", "what helps"), why)
    yield "## Ratings"
    yield from _table(
        ("dimension", "mean", "rated"),
        [(code(name), _number(of["mean"]), str(of["rated"])) for name, of in figures["histograms"].items()],
    )
    rows = [(code(c["a"]), code(c["b"]), _number(c["rho"])) for c in figures["correlations"]]
    yield from _table(("", "", "Spearman"), rows)
    equal = figures["equal_pairs"]
    yield f"{equal['equal']:,} of {equal['pairs']:,} pairs of candidates have equal rewards.\n"
    yield "## Calls"
    names = ("replies", "again", "cut_off", "prompt_tokens", "cached_tokens", "completion_tokens")
    yield from _table(
        ("dimension", *(name.replace("_", " ") for name in names)),
        [(code(d), *(f"{of[n]:,}" for n in names)) for d, of in figures["calls"]["by_dimension"].items()],
    )


def _audit(of: Mapping[str, JSON]) -> Iterator[str]:
    yield "\n## Audit"
    rows = [(code(name), code(found.get("balanced_accuracy", {}).get("value")), code(found.get("n")))
            for name, found in of["judges"].items()]  # fmt: skip
    yield from _table(("judge", "balanced accuracy", "statements"), rows)
    if of.get("other_judges"):
        yield "- The audit asked judges with other settings than this run's."
    yield from (f"- alarm: {code(alarm)}" for alarm in of["alarms"])
    yield from (f"- not better than {code(other)} beyond chance" for other in of["not_better_than"])


def _comparison(of: Mapping[str, JSON]) -> Iterator[str]:
    yield f"\n## Compared with {code(of['other'])}\n"
    yield from (f"- {code(line)}" for line in of["settings"] or ["the settings are the same"])
    rows = [(code(name), f"{d['mean']:+.2f}", _number(d["mean_absolute"]), str(d["candidates"]))
            for name, d in of["differences"].items()]  # fmt: skip
    yield from _table(("dimension", "mean change", "mean absolute change", "candidates"), rows)
    yield f"Mean rank correlation within samples: {_number(of['rank_correlation'])}."
    rows = [(code(m["id"]), code(m["candidate"]), _number(m["before"]), _number(m["reward"])) for m in of["moved"]]
    yield from _table(("sample", "candidate", "before", "now"), rows)


def _sample(sample: lrf.ScoredSample) -> Iterator[str]:
    yield f"\n### {code(sample.id)}\n"
    yield code(sample.sample.query)
    names = list(dict.fromkeys(name for c in sample.candidates for name in c.reward.ratings))
    rows = [
        (str(c.rank or "–"), code(c.id), _number(c.reward.reward), *(_number(c.reward.ratings.get(n)) for n in names))
        for c in sample.candidates
    ]
    yield from _table(("rank", "candidate", "reward", *map(code, names)), rows)
    for candidate in sample.facts(words=True)["candidates"]:
        yield f"**{code(candidate['id'])}**: {code(candidate['text'])}\n"
        for name, judgement in candidate["judgements"].items():
            yield from _judgement(name, judgement)


def _judgement(name: str, judgement: Mapping[str, JSON]) -> Iterator[str]:
    if unscored := judgement.get("unscored"):
        yield f"- {code(name)}: unscored, {code(unscored['reason'])}: {code(unscored['detail'])}"
        return
    yield f"- {code(name)}: {_number(judgement['rating'])}"
    if judgement["analysis"]:
        yield f"  - {code(judgement['analysis'])}"
    if judgement.get("reply_mode") == "rubric":
        for item in judgement.get("extra", {}).get("items", ()):
            score = "unscored" if item["score"] is None else f"{item['score']:.2f}"
            yield f"  - {score}: {code(item['item'])} (weight {item['weight']:g})"
    for statement in judgement.get("statements", ()):
        if statement["support"] < 1:
            yield f"  - {code(statement['verdict'])}: {code(statement['text'])}"
            if place := statement["closest"]:
                where = f"{code(place['document'])}, {place['start']}-{place['end']}"
                yield f"    - in {where}: {code(place['words'])}"
