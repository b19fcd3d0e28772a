"""Before a statement counts as unsupported: was it not in the document, or not in the evidence?"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from lrf.engine.budget import BudgetLedger
from lrf.engine.panel import PanelSettings
from lrf.prompting.requests import Reply, Request
from lrf.protocols import Capabilities
from lrf.stages.score.rows import judgement_json
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.text.chunking import chunk_document
from lrf.types import Candidate, Document, Sample, Unscored
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.second_look import WIDER
from lrf_longreward.settings import FaithfulnessSettings
from scoring import WordRetriever, judgement_of, outcome_of, rewards_of, statements_in, tagged, task_of

SENTENCES = [f"Village {n} keeps its archive in building number {n}." for n in range(20)]
SENTENCES[9:9] = [
    "Mill three is known for the great fire of its oven.",  # what one chunk of evidence for FAR is
    "The wheel house burnt down in 1850, people say.",  # what it should have been
]
TEXT = " ".join(SENTENCES)
SAMPLE = Sample("s", "What became of the mill?", (Document("d", TEXT),), (Candidate("c", "It burnt down."),))
FAR = "Mill three burnt down in the great fire."
ABSENT = "Mill three was sold to a baker."
THERE = "Village 5 keeps its archive in building number 5."
ONE = WordRetriever(tokens=14, top_k=1)


def judge_of(
    *statements: str, truth: Callable[[str, str], bool] | None = None, structured: bool = False, name: str = "one"
) -> ScriptedJudge:
    """Extracts these statements, and finds support where the passages hold what the statement is about."""

    def supported(statement: str, shown: str) -> bool:
        needed = {FAR: "burnt down in 1850", ABSENT: "sold to", THERE: "number 5."}[statement]
        passages = shown.split("<statement>")[0]
        return needed in passages if truth is None else truth(statement, passages)

    def script(request: Request) -> str:
        if request.expects.kind == "statements":
            return json.dumps({"statements": statements}) if request.reply_mode == "json" else tagged(*statements)
        items = task_of(request).split("<item ")[1:] or [task_of(request)]
        verdicts = [
            "Fully supported" if supported(s, item) else "No support"
            for s, item in zip(statements_in(request), items, strict=True)
        ]
        if request.expects.kind == "verdicts":
            return json.dumps({f"v{n}": {"analysis": "", "verdict": v} for n, v in enumerate(verdicts, start=1)})
        return json.dumps({"analysis": "", "verdict": verdicts[0]}) if structured else f"So. [[{verdicts[0]}]]"

    return ScriptedJudge(script, capabilities=Capabilities(structured=structured), identity={"name": name})


def looking(how: str, **settings: object) -> Faithfulness:
    return Faithfulness(FaithfulnessSettings.model_validate({"second_look": how, **settings}))


def verdicts_asked(judge: ScriptedJudge) -> list[str]:
    return [s for r in judge.requests if r.expects.kind in ("verdict", "verdicts") for s in statements_in(r)]


async def test_without_a_second_look_a_missed_passage_counts_as_no_support() -> None:
    judge = judge_of(FAR)
    judgement = await judgement_of(looking("off"), judge, SAMPLE, retriever=ONE)
    [statement] = judgement.statements
    assert (judgement.rating, statement.verdict, statement.attribution, statement.first) == (
        0,
        "No support",
        None,
        None,
    )
    assert judgement.extra == {"repeated_statements": 0}


@pytest.mark.parametrize("how", ["widen", "neighbours"])
@pytest.mark.parametrize("per_call", [1, 8])
async def test_the_result_tells_what_was_not_retrieved_from_what_is_unsupported(how: str, per_call: int) -> None:
    judge = judge_of(FAR, ABSENT, THERE, structured=per_call > 1)

    judgement = await judgement_of(looking(how, verdicts_per_call=per_call), judge, SAMPLE, retriever=ONE)

    found, absent, there = judgement.statements
    assert (found.verdict, found.support, found.attribution) == ("Fully supported", 1.0, "not_retrieved")
    assert found.first is not None
    assert (found.first.verdict, found.first.attribution, found.first.first) == ("No support", None, None)
    covered = [TEXT[span.start : span.end] for span in found.evidence]
    assert any("burnt down in 1850" in text for text in covered)
    assert not any("burnt down" in TEXT[span.start : span.end] for span in found.first.evidence)
    assert (absent.verdict, absent.attribution) == ("No support", "unsupported")
    assert absent.first is not None
    assert (there.verdict, there.attribution, there.first) == ("Fully supported", None, None)
    assert judgement.rating == pytest.approx(20 / 3)
    assert judgement.extra == {"repeated_statements": 0, "second_looks": 2, "not_retrieved": 1}
    assert sorted(verdicts_asked(judge)) == sorted([FAR, FAR, ABSENT, ABSENT, THERE])


async def test_the_first_look_is_kept_in_the_row() -> None:
    judgement = await judgement_of(looking("widen"), judge_of(FAR), SAMPLE, retriever=ONE)
    row = json.loads(json.dumps(judgement_json(judgement)))["statements"][0]
    assert row["attribution"] == "not_retrieved"
    assert row["first"]["verdict"] == "No support"
    assert len(row["first"]["evidence"]) == 1
    assert len(row["evidence"]) == WIDER


async def test_wider_evidence_holds_the_first_evidence_whatever_the_retriever_finds() -> None:
    class Fickle(WordRetriever):
        async def index(self, documents):  # type: ignore[no-untyped-def]
            self.chunks = [c for d in documents for c in chunk_document(d, 14, whole_sentences=True)]
            return self

        async def search(self, queries, top_k=None):  # type: ignore[no-untyped-def]
            return [self.chunks[-top_k:] if top_k else self.chunks[:1] for _ in queries]

    judgement = await judgement_of(looking("widen"), judge_of(ABSENT), SAMPLE, retriever=Fickle())
    [statement] = judgement.statements
    assert statement.first is not None
    assert statement.evidence[0] == statement.first.evidence[0]
    assert len(statement.evidence) == WIDER
    assert list(statement.evidence) == sorted(statement.evidence, key=lambda s: s.start)


@pytest.mark.parametrize("how", ["widen", "neighbours"])
async def test_where_there_is_no_more_evidence_nothing_is_asked_again(how: str) -> None:
    judge = judge_of(ABSENT)
    short = Sample("s", "?", (Document("d", "A short text."),), SAMPLE.candidates)
    judgement = await judgement_of(looking(how), judge, short, retriever=ONE)
    [statement] = judgement.statements
    assert (statement.attribution, statement.first) == ("unsupported", None)
    assert verdicts_asked(judge) == [ABSENT]
    assert judgement.extra["second_looks"] == 0


async def test_a_second_look_that_brings_no_verdict_makes_the_answer_unscored() -> None:
    def script(request: Request) -> Reply:
        if request.expects.kind == "statements":
            return Reply(tagged(FAR))
        many = task_of(request).count("\n\n[") > 0
        return Reply("", "filter") if many else Reply("[[No support]]")

    outcome = await outcome_of(looking("widen"), ScriptedJudge(script), SAMPLE, retriever=ONE)
    assert isinstance(outcome, Unscored)
    assert outcome.reason == "filtered"


async def test_a_second_look_is_replayed_from_the_journal_without_a_call() -> None:
    journal, first, again = Journal(), BudgetLedger(), BudgetLedger()
    statements = (FAR, ABSENT, THERE)
    rewards = await rewards_of(
        looking("widen"), judge_of(*statements), SAMPLE, retriever=ONE, journal=journal, ledger=first
    )
    replayed = await rewards_of(
        looking("widen"), judge_of(*statements), SAMPLE, retriever=ONE, journal=journal, ledger=again
    )
    await asyncio.to_thread(journal.close)
    assert replayed == rewards
    assert first.total().calls == 6
    assert again.total().calls == 0


async def test_the_verdict_of_a_panel_is_doubted_as_a_whole() -> None:
    judges = {"one": judge_of(FAR), "two": judge_of(FAR, truth=lambda s, shown: True, name="two")}
    judgement = await judgement_of(
        looking("widen"), judges, SAMPLE, retriever=ONE, asking=PanelSettings(others=("two",))
    )
    [statement] = judgement.statements
    assert (statement.verdict, statement.attribution) == ("Partially supported", None)
