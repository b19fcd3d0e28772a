# ruff: noqa: E501
"""Texts that try to be more than text, and runs that have them in every field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from lrf.stages.score.rows import judgement_row, reward_row
from lrf.types import (
    Candidate,
    Document,
    JudgedStatement,
    Judgement,
    Note,
    Quotation,
    Reward,
    Sample,
    Span,
    Unscored,
    Vote,
)

HIT = "window.__hit=1"
HOSTILE = (
    f"<script>{HIT}</script>", f"</script><script>{HIT}</script>", f"<ScRiPt>{HIT}</sCrIpT>", f"<script\n>{HIT}</script\n>",
    f"<img src=x onerror={HIT}>", f'"><img src=x onerror="{HIT}">', f"'><img src=x onerror='{HIT}'>",
    f"<svg onload={HIT}>", f"<svg><script>{HIT}</script></svg>", f"<svg/onload={HIT}//", f"<body onload={HIT}>",
    "<iframe srcdoc='<script>parent.__hit=1</script>'>", f'<iframe src="javascript:{HIT}">', f"<math><mtext></script><img src=x onerror={HIT}>",
    f"<a href='javascript:{HIT}'>x</a>", f"javascript:{HIT}", f"JaVaScRiPt:{HIT}", f"java\tscript:{HIT}", f"data:text/html,<script>{HIT}</script>",
    f"<details open ontoggle={HIT}>", f"<input autofocus onfocus={HIT}>", f"<video><source onerror={HIT}></video>",
    "<style>@import 'http://127.0.0.1:9/x';</style>", "<link rel=stylesheet href=http://127.0.0.1:9/x>", "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<base href=http://127.0.0.1:9/>", "<img src=http://127.0.0.1:9/x.png>", "<object data=http://127.0.0.1:9/></object>", "<form action=http://127.0.0.1:9/><button>x</form>",
    "<!--", "-->", "<!-- <script>", "<![CDATA[", "]]>", "</title>", "</style>", "</textarea>", "</noscript>", "<plaintext>", "</body></html>",
    "{{7*7}}", "{{ config }}", "{% raw %}", "{% endraw %}{{ 7*7 }}", "{%", "{#", "#}", "${7*7}", "<%= 7*7 %>", "[[x]]", "`|`", "|x|y|", "![x](http://127.0.0.1:9/x.png)",
    f"[x](javascript:{HIT})", "```\n<b>x</b>\n```", "__proto__", "constructor", "toString", "hasOwnProperty", "null", "undefined", "NaN", "-0",
    "\u202eevil\u202c", "\u2066\u2067\u2068x", "\u200b\u200e\u200f\ufeff", "שלום <b>עולם</b>", "مرحبا ‏بالعالم", "a\u0301\u0301\u0301" * 40, "\u2028\u2029", "\x01\x02\x1b[31m\x7f\x85\x9b",
    "👩‍👩‍👧‍👦🏳️‍🌈", "\ufffd\ufffe\uffff", "𝕳𝖊𝖑𝖑𝖔" * 20, "&lt;script&gt;", "&#x3c;script&#x3e;", "&amp;&amp;", "%3Cscript%3E%", "%", "%zz", "../../etc/passwd", "C:\\x", "#/sample/x", "a/b/c?d#e",
    "\\u003cscript\\u003e", "\\", '"', "'", '\\"', "x" * 20_000, "<b>" * 2_000, "\n" * 50 + "x", "\t \u00a0 x",
)  # fmt: skip
"""Each is a text that a row of data may have: without NUL and lone surrogates."""


def sample_of(number: int, text: str) -> tuple[Sample, list[Reward]]:
    """A sample with the text in every field, and rewards with it in theirs."""
    id_ = f"{number} {text[:200]}"
    document = Document(f"d {text[:200]}", f"Before. {text} After.", text[:500])
    span = Span(document.id, 8, 8 + len(text))
    candidates = tuple(Candidate(f"{i} {text[:200]}", text, text[:200]) for i in range(3))
    statement = JudgedStatement(
        text, text, 0.5, (span,), text, None, (Vote(text, 0, text, text),), (Quotation(text, None, 0.0), Quotation(text, span, 1.0)),
        "not_retrieved", JudgedStatement(text, text, 0.0),
    )  # fmt: skip
    name = f"dimension {text[:60]}"
    judged = Judgement(
        5.0,
        text,
        text,
        (statement,),
        (Note(span, text),),
        {text[:50]: 1},
        0.5,
        (Vote(text, 0, text, text),),
        {text[:50]: 0.5},
    )
    unscored = Unscored(name, f"reason {text[:60]}", text)
    rewards = [
        Reward(id_, candidates[0].id, 7.0, {name: 7.0}, None, {name: judged}),
        Reward(id_, candidates[1].id, 3.0, {name: 3.0}, None, {name: judged}),
        Reward(id_, candidates[2].id, None, {name: None}, unscored, {name: unscored}),
    ]
    return Sample(id_, text, (document,), candidates, text), rewards


def write_run(folder: Path, scored: Iterable[tuple[Sample, Sequence[Reward]]], note: str = "") -> Path:
    """The folder of a run with these samples and rewards, and its data beside it; ``note`` is in its summary."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder.parent / f"{folder.name}.jsonl"
    with (
        data.open("w", encoding="utf-8") as rows,
        (folder / "rewards.jsonl").open("w", encoding="utf-8") as reward_lines,
        (folder / "judgements.jsonl").open("w", encoding="utf-8") as judgement_lines,
    ):
        for sample, rewards in scored:
            rows.write(json.dumps(_row(sample)) + "\n")
            for reward in rewards:
                reward_lines.write(json.dumps(reward_row(reward)) + "\n")
                judgement_lines.write(json.dumps(judgement_row(reward)) + "\n")
    pipeline = {
        "name": "run",
        "data": {"type": "jsonl", "path": str(data)},
        "judges": {"main": {"type": note, "model": note}},
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline), encoding="utf-8")
    alarms = [{"alarm": "length", "message": note}] if note else []
    summary = {
        "status": "finished",
        "message": note,
        "seconds": 1.0,
        "alarms": alarms,
        "stages": {"score": {"scored": 2}},
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _row(sample: Sample) -> dict[str, object]:
    return {
        "id": sample.id,
        "query": sample.query if sample.query.strip() else "?",
        "context": [{"id": d.id, "title": d.title, "text": d.text} for d in sample.documents],
        "candidates": [{"id": c.id, "text": c.text, "source": c.source} for c in sample.candidates],
        "reference": sample.reference,
    }
