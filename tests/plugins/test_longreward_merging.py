"""Notes on a very long document are merged until they fit into the judge's window, and nothing is cut in silence."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lrf.engine.budget import BudgetLedger
from lrf.engine.panel import PanelSettings
from lrf.prompting.requests import Request
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities
from lrf.stages.score.rows import judgement_json
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.text.chunking import count_tokens
from lrf.types import Candidate, Chunk, Document, Sample, Unscored
from lrf_longreward.completeness import Completeness
from lrf_longreward.documents import WholeDocument
from lrf_longreward.notes import NOTE_TOKENS, PartNote, merged, notes_text
from lrf_longreward.settings import CompletenessSettings
from scoring import judgement_of, outcome_of, rewards_of, task_of

FACTS = [f"Fact {n} is that the valve number {n} was replaced by the crew." for n in range(40)]
TEXT = "\n".join(fact + " " + "Nothing else happened that day. " * 12 for fact in FACTS)
CANDIDATES = (Candidate("a", "The valves were replaced."), Candidate("b", "Valve 7 was replaced. " * 3))
SAMPLE = Sample("s", "Which valves were replaced?", (Document("d", TEXT),), CANDIDATES)
WORDY = " I noted this down with great care, as I was asked to do." * 6


def noting(window: int | None = None, keep: int = 1000, **can: Any) -> ScriptedJudge:
    """Notes the facts of a part; merges notes into a list of their facts' numbers, ``keep`` of them at most."""

    def script(request: Request) -> str:
        task, kind = task_of(request), request.expects.kind
        numbers = re.findall(r"valve number (\d+)|#(\d+)", task.split("<question>")[0])
        found = list(dict.fromkeys(a or b for a, b in numbers))[:keep]
        if kind == "rating":
            return "[[6]]"
        if "<part>" in task:
            return "\n".join(f"1. valve number {n} was replaced.{WORDY}" for n in found) or "No relevant information"
        return " ".join(f"#{n}" for n in found) or "No relevant information"

    return ScriptedJudge(script, capabilities=Capabilities(context_window=window, **can), identity={"window": window})


def asked(judge: ScriptedJudge, what: str) -> list[Request]:
    """What was asked for: "note", "merge" or "rating"."""

    def of(request: Request) -> str:
        if request.expects.kind == "rating":
            return "rating"
        return "note" if "<part>" in task_of(request) else "merge"

    return [r for r in judge.requests if of(r) == what]


def reading(**values: Any) -> Completeness:
    return Completeness(CompletenessSettings(chunk_tokens=200, **values))


async def test_notes_that_fit_are_shown_as_they_are() -> None:
    for judge, values in ((noting(), {}), (noting(200_000), {}), (noting(), {"max_notes_tokens": 100_000})):
        judgement = await judgement_of(reading(**values), judge, SAMPLE)
        assert asked(judge, "merge") == []
        assert judgement.extra == {}
        assert judgement.seen == {"answer": 1.0, "document": 1.0}


async def test_notes_longer_than_was_set_are_merged_once_for_all_candidates_and_the_judgement_says_so() -> None:
    judge = noting()
    rewards = await rewards_of(reading(max_notes_tokens=1500), judge, SAMPLE)
    one, other = (r.judgements["d"] for r in rewards)
    assert not isinstance(one, Unscored)
    assert not isinstance(other, Unscored)
    assert one.extra == other.extra
    assert one.extra["merge_rounds"] >= 1
    assert len(asked(judge, "rating")) == 2
    assert len(asked(judge, "merge")) == len({prompt_text(r.prompt) for r in asked(judge, "merge")})
    context = task_of(asked(judge, "rating")[0]).split("<question>")[0]
    assert count_tokens(context) <= 1520
    noted = re.findall(r"valve number (\d+)", "\n".join(note.text or "" for note in one.notes))
    assert re.findall(r"#(\d+)", context) == noted  # nothing is lost on the way
    assert len(noted) > 30
    assert all(text in context for text in one.extra["merged_notes"])
    assert 0 < one.seen["notes"] < 0.5
    assert one.seen["document"] == 1.0
    assert len(one.notes) == len(asked(judge, "note"))  # the notes themselves are kept
    row = json.loads(json.dumps(judgement_json(one)))
    assert row["seen"]["notes"] == one.seen["notes"]


async def test_the_judges_window_decides_where_it_is_known() -> None:
    judge = noting(4600)
    judgement = await judgement_of(reading(), judge, SAMPLE)
    assert judgement.extra["merge_rounds"] >= 1
    for request in judge.requests:
        assert count_tokens(prompt_text(request.prompt)) + request.max_tokens <= 4600


async def test_thoughts_take_room_too_and_the_smallest_window_of_a_panel_counts() -> None:
    wide, narrow = noting(200_000), noting(4600)
    judgement = await judgement_of(
        reading(), {"wide": wide, "narrow": narrow}, SAMPLE, asking=PanelSettings(others=("narrow",))
    )
    assert judgement.extra["merge_rounds"] >= 1
    thinking = noting(12_000, reasoning_tokens=7400)
    assert (await judgement_of(reading(), thinking, SAMPLE)).extra["merge_rounds"] >= 1


async def test_merged_notes_are_headed_with_the_part_that_they_cover() -> None:
    judge = noting()
    await judgement_of(reading(max_notes_tokens=300), judge, SAMPLE)
    context = task_of(asked(judge, "rating")[0])
    parts = [(int(a), int(b)) for a, b in re.findall(r"\[(\d+)%–(\d+)%\]", context)]
    assert parts[0][0] == 0
    assert parts[-1][1] == 100
    assert parts == sorted(parts)


async def test_notes_on_several_documents_are_headed_with_the_first_and_the_last() -> None:
    documents = tuple(Document(f"d{n}", TEXT[:600], f"Title {n}") for n in range(4))
    judge = noting()
    await judgement_of(reading(max_notes_tokens=20), judge, Sample("s", "?", documents, CANDIDATES[:1]))
    assert re.search(r"\[0%–100%\] Title 0 – Title 3\n#", task_of(asked(judge, "rating")[0]))


async def test_what_can_not_be_made_to_fit_is_unscored_and_not_cut() -> None:
    stubborn = ScriptedJudge(
        lambda r: "[[6]]" if r.expects.kind == "rating" else "A very long note. " * 800,
        capabilities=Capabilities(context_window=5000),
    )
    outcome = await outcome_of(reading(), stubborn, SAMPLE)
    assert isinstance(outcome, Unscored)
    assert outcome.reason == "context_too_small"


async def test_an_answer_that_leaves_no_room_for_notes_is_unscored() -> None:
    long = Sample("s", "?", SAMPLE.documents, (Candidate("c", "A long answer. " * 3000),))
    outcome = await outcome_of(reading(), noting(8000), long)
    assert isinstance(outcome, Unscored)
    assert outcome.reason == "context_too_small"


async def test_merging_in_chinese_asks_in_chinese() -> None:
    text = "".join(
        f"第{n}个阀门在这一天被更换了，valve number {n}。其他什么事情也没有发生，大家都很高兴。" for n in range(60)
    )
    judge = noting()
    await judgement_of(reading(max_notes_tokens=200), judge, Sample("s", "哪些？", (Document("d", text),), CANDIDATES))
    assert all("合并成一份笔记" in prompt_text(r.prompt) for r in asked(judge, "merge"))


async def test_merging_is_replayed_from_the_journal_without_a_call() -> None:
    journal, first, again = Journal(), BudgetLedger(), BudgetLedger()
    made = await rewards_of(reading(max_notes_tokens=500), noting(), SAMPLE, journal=journal, ledger=first)
    replayed = await rewards_of(reading(max_notes_tokens=500), noting(), SAMPLE, journal=journal, ledger=again)
    await asyncio.to_thread(journal.close)
    assert made == replayed
    assert first.total().calls > 20
    assert again.total().calls == 0


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=24), st.integers(1, 400), st.integers(1, 400), st.booleans())
def test_merging_ends_and_keeps_the_order(lengths: list[int], room: int, room_to_merge: int, empty: bool) -> None:
    document = Document("d", "x" * len(lengths))
    whole = WholeDocument(Sample("s", "?", (document,)))
    notes = [PartNote(c, c, f"n{i} " * n) for i, n in enumerate(lengths) for c in [Chunk("d", i, i + 1, "x")]]
    asked: list[str] = []

    async def merge(text: str) -> str | None:
        asked.append(text)
        return None if empty and len(asked) % 3 == 0 else " ".join(dict.fromkeys(re.findall(r"n\d+", text)))

    left, rounds = asyncio.run(merged(whole, notes, room, room_to_merge, merge))

    assert rounds <= len(lengths).bit_length() + 1
    assert len(asked) <= 2 * len(lengths)
    assert (rounds == 0) == (left == notes)
    assert count_tokens(notes_text(whole, left)) <= room or len(left) <= 1
    places = [(n.first.start, n.last.end) for n in left]
    assert places == sorted(places)
    if not empty and rounds:
        assert set(re.findall(r"n\d+", notes_text(whole, left))) == {f"n{i}" for i in range(len(lengths))}
    assert NOTE_TOKENS == 1024


async def test_the_most_of_a_plan_holds_when_notes_are_merged(tmp_path, serve) -> None:  # type: ignore[no-untyped-def]
    from aiohttp import web

    from lrf.config import parse_pipeline
    from lrf.planning.plan import plan_pipeline
    from lrf.plugin.catalog import load_catalog
    from lrf.stages.runner import run_pipeline

    async def answer(request: web.Request) -> web.Response:
        prompt = (await request.json())["messages"][-1]["content"]
        text = "[[6]]" if prompt.endswith("Analysis:") else f"{hash(prompt)} " + "noted " * 700
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": len(text) // 4}
        return web.json_response({"model": "m", "choices": [choice], "usage": usage})

    (tmp_path / "samples.jsonl").write_text(json.dumps({"context": TEXT, "query": "?", "candidates": [{"text": "A."}]}))
    pipeline = {
        "name": "run",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {"main": {"type": "openai", "base_url": f"{await serve(answer)}/v1", "model": "m"}},
        "dimensions": [{"type": "completeness", "chunk_tokens": 400, "max_notes_tokens": 2000}],
    }
    made = parse_pipeline(json.dumps(pipeline), load_catalog(), folder=tmp_path)
    plan = await plan_pipeline(made)
    summary = await run_pipeline(made, load_catalog(), tmp_path / "runs")
    score = summary.stages["score"]
    assert score["scored"] == 1
    estimate = plan.dimensions["completeness"]
    assert score["calls"] > len(TEXT) // 4000
    assert score["calls"] <= estimate.bound_calls
    assert score["prompt_tokens"] <= estimate.bound_prompt_tokens
