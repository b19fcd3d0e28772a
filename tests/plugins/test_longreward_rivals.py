"""One candidate's rating depends on itself, the document and the question only, whoever its rivals are."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import prompt_text
from lrf.protocols import Capabilities, Dimension
from lrf.testing import ScriptedJudge, valid_reply
from lrf.types import Candidate, Document, Sample
from lrf_longreward.completeness import Completeness
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.helpfulness import Helpfulness
from lrf_longreward.logicality import Logicality
from lrf_longreward.settings import CompletenessSettings, FaithfulnessSettings
from scoring import rewards_of

TEXT = "\n".join(
    f"Fact {n} is that valve {n} was replaced. " + "Nothing else happened that day. " * 12 for n in range(40)
)
LONG = Candidate("long", "The valves were replaced, one after the other. " * 700)  # 30,000 characters
OWN = (Candidate("a", "The valves were replaced."), Candidate("b", "Valve 7 was replaced. Valve 8 was not."))
SAMPLE = Sample("s", "Which valves were replaced?", (Document("d", TEXT),), OWN)


def judge(window: int = 12_000) -> ScriptedJudge:
    """Its opinion follows from every character of the prompt, so whatever a rival changes in a prompt is seen."""

    def script(request: Request) -> Reply:
        prompt = prompt_text(request.prompt)
        number = int(hashlib.sha256(prompt.encode()).hexdigest(), 16)
        if request.expects.kind == "text":
            return Reply(f"{number}. " + "It says so in detail. " * (60 if "<part>" in prompt else 8))
        if request.expects.kind == "statements":
            answer = request.prompt[-2].original
            return Reply("".join(f"<statement>{s.strip()}.</statement>" for s in answer.split(".")[:3] if s.strip()))
        if request.options and request.reply_mode == "text":
            return Reply(request.options[number % len(request.options)])
        return valid_reply(request)

    return ScriptedJudge(script, capabilities=Capabilities(context_window=window, structured=True))


@pytest.mark.parametrize(
    "dimension",
    [
        Helpfulness(),
        Logicality(),
        Faithfulness(),
        Faithfulness(FaithfulnessSettings(verdicts_per_call=2, second_look="neighbours")),
        Completeness(CompletenessSettings(chunk_tokens=200)),
        Completeness(CompletenessSettings(chunk_tokens=200, max_notes_tokens=900)),
    ],
    ids=lambda d: type(d).__name__,
)
async def test_adding_removing_and_reordering_rivals_changes_no_rating(dimension: Dimension) -> None:
    outcomes = []
    for rivals in ((), OWN[1:], (LONG,), (LONG, *OWN[1:]), (*OWN[1:], Candidate("empty", ""))):
        for candidates in ((OWN[0], *rivals), (*rivals, OWN[0])):
            rewards = await rewards_of(dimension, judge(), replace(SAMPLE, candidates=candidates))
            (reward,) = (r for r in rewards if r.candidate_id == "a")
            outcomes.append(reward.judgements["d"])
    assert all(outcome == outcomes[0] for outcome in outcomes)


async def test_answers_of_similar_length_share_merged_notes() -> None:
    asked = judge(window=6_000)
    several = replace(SAMPLE, candidates=tuple(Candidate(str(n), f"Valve {n} was replaced.") for n in range(4)))
    rewards = await rewards_of(Completeness(CompletenessSettings(chunk_tokens=200)), asked, several)
    merges = [r for r in asked.requests if r.expects.kind == "text" and "<part>" not in prompt_text(r.prompt)]
    assert len(merges) == len({prompt_text(r.prompt) for r in merges}) > 0
    assert all(r.judgements["d"].extra["merge_rounds"] for r in rewards)  # type: ignore[union-attr]
