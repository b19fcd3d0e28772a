"""A cascade of judges: who is sure decides, and the later ones aren't asked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from lrf.assemble import check_reply_modes
from lrf.config import parse_pipeline
from lrf.engine.asked import Asked
from lrf.engine.budget import BudgetLedger
from lrf.engine.judge_calls import JudgeCalls
from lrf.engine.paid_call import Caller
from lrf.engine.panel import NamedDimension, PanelSettings, ask_panel
from lrf.errors import ConfigError, RejectedError, UnavailableError, UnscorableError
from lrf.planning.plan import plan_pipeline
from lrf.plugin.catalog import load_catalog
from lrf.prompting.expectations import Choice, Rating, Statements, Text, Verdict, Verdicts
from lrf.prompting.requests import Answer, Reply, Request
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf.store.journal import Journal
from lrf.testing import ScriptedJudge
from lrf.types import Vote

LABELS = {"yes": 1.0, "no": 0.0}
JUDGES = {"small": "vllm", "main": "openai"}
PROMPT = (Segment("Is it so? "), Segment("A claim.", trusted=False, name="statement"))


def weighing(p: float, name: str = "small", **can: Any) -> ScriptedJudge:
    """Gives "yes", or the first option, this probability."""

    def script(request: Request) -> Reply:
        first, *others = request.options
        return Reply("", probabilities={first: p, **dict.fromkeys(others, (1 - p) / len(others))})

    return ScriptedJudge(script, capabilities=Capabilities(probabilities=True, **can), identity={"name": name})


def saying(text: str, name: str = "main", **can: Any) -> ScriptedJudge:
    return ScriptedJudge(lambda r: text, capabilities=Capabilities(**can), identity={"name": name})


async def ask(
    expects: Any, sure: float = 0.9, rating: Any = "auto", **judges: ScriptedJudge
) -> tuple[Answer[Any], int]:
    """The answer, and how many questions were spared."""
    journal, ledger = Journal(), BudgetLedger()
    calls = [JudgeCalls(name, judge, journal, ledger) for name, judge in judges.items()]
    asking = PanelSettings(rating=rating, others=tuple(judges)[1:], panel="cascade", sure=sure)
    try:
        (answer,) = await ask_panel(calls, asking, [Asked(PROMPT, expects, 64, Caller("s", "d"))])
    finally:
        await asyncio.to_thread(journal.close)
    if isinstance(answer, UnscorableError):
        raise answer
    return answer, ledger.lines["d"].spared


async def test_a_judge_that_is_sure_decides_and_the_next_is_not_asked() -> None:
    small, main = weighing(0.95), saying("[[no]]")
    answer, spared = await ask(Verdict(LABELS), small=small, main=main)
    p = {"[[yes]]": 0.95, "[[no]]": pytest.approx(0.05)}
    assert answer.value == "yes"
    assert answer.votes == (Vote("small", 0, "yes", "logprobs", p),)
    assert (len(main.requests), spared) == (0, 1)


async def test_a_judge_that_is_not_sure_hands_on_and_its_own_opinion_counts_for_nothing() -> None:
    small, main = weighing(0.89), saying("[[no]]")
    answer, spared = await ask(Verdict(LABELS), small=small, main=main)
    assert (answer.value, answer.probabilities) == ("no", None)
    assert answer.votes == (Vote("main", 0, "no", "text", None),)
    assert (len(main.requests), spared) == (1, 0)


async def test_being_sure_of_no_counts_as_being_sure_of_yes() -> None:
    answer, _ = await ask(Verdict(LABELS), small=weighing(0.02), main=saying("[[yes]]"))
    assert answer.value == "no"


async def test_the_last_judge_decides_without_being_sure() -> None:
    answer, spared = await ask(Verdict(LABELS), small=weighing(0.6), main=weighing(0.6, "main"))
    assert (answer.votes[0].judge, spared) == ("main", 0)


async def test_ratings_and_choices_go_through_the_cascade_too() -> None:
    rating, _ = await ask(Rating(), small=weighing(0.95), main=saying("[[7]]"))
    choice, _ = await ask(Choice(("left", "right")), small=weighing(0.5), main=saying("[[right]]"))
    assert rating.votes[0].judge == "small"
    assert rating.value == pytest.approx(0.05 * 5.5)
    assert (choice.value, choice.votes[0].judge) == ("right", "main")


@pytest.mark.parametrize(("expects", "text"), [(Text(), "A note."), (Statements(), "<statement>A.</statement>")])
async def test_statements_and_notes_are_the_last_judges(expects: Any, text: str) -> None:
    small, main = weighing(1.0), saying(text)
    answer, spared = await ask(expects, small=small, main=main)
    assert answer.value
    assert (len(small.requests), len(main.requests), spared) == (0, 1, 0)


async def test_a_judge_of_verdicts_only_is_passed_over_for_ratings() -> None:
    small, main = weighing(1.0, kinds=("verdict",)), saying("[[7]]")
    answer, _ = await ask(Rating(), small=small, main=main)
    assert answer.value == 7
    assert small.requests == []


async def test_the_wanted_way_is_that_of_the_last_judge() -> None:
    small, main = weighing(0.6), saying('{"analysis": "", "verdict": "no"}', structured=True, probabilities=True)
    answer, _ = await ask(Verdict(LABELS), rating="json", small=small, main=main)
    assert (answer.value, answer.reply_mode) == ("no", "json")
    assert [r.reply_mode for r in small.requests] == ["logprobs"]


async def test_several_verdicts_in_one_call_can_not_be_asked_for() -> None:
    with pytest.raises(UnscorableError, match="reply_mode_not_possible"):
        await ask(Verdicts(LABELS, 2), small=weighing(1.0), main=saying("{}", structured=True))


async def test_a_judge_that_refuses_is_passed_over() -> None:
    refusing = ScriptedJudge(
        [RejectedError("too long")], capabilities=Capabilities(probabilities=True), identity={"n": 1}
    )
    answer, _ = await ask(Verdict(LABELS), small=refusing, main=saying("[[yes]]"))
    assert answer.votes[0].judge == "main"


async def test_a_judge_that_is_away_is_waited_for_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.0)

    def away(request: Request) -> Reply:
        raise UnavailableError("gone")

    main = saying("[[yes]]")
    with pytest.raises(UnscorableError) as caught:
        await ask(Verdict(LABELS), small=ScriptedJudge(away, capabilities=Capabilities(probabilities=True)), main=main)
    assert caught.value.transient
    assert main.requests == []


def pipeline(folder: Path, **dimension: Any) -> Any:
    (folder / "samples.jsonl").write_text(
        json.dumps({"context": "The sky is blue.", "query": "?", "candidates": [{"text": "It is blue. It is high."}]})
    )
    server = {"base_url": "http://127.0.0.1:9/v1"}
    text = {
        "name": "cascade",
        "data": {"type": "jsonl", "path": "samples.jsonl"},
        "judges": {
            "small": {**server, "type": "vllm", "model": "s"},
            "main": {**server, "type": "openai", "model": "m"},
        },
        "dimensions": [{"type": "helpfulness", **(dimension or {"judge": "main"})}],
    }
    return parse_pipeline(json.dumps(text), load_catalog(), folder=folder)


def test_a_pipeline_names_the_judges_in_their_order_and_how_sure_one_must_be(tmp_path: Path) -> None:
    made = pipeline(tmp_path, judges=["small", "main"], panel="cascade", sure=0.8)
    [block] = made.dimensions
    assert (block.judges, block.keys.panel, block.keys.sure) == (("small", "main"), "cascade", 0.8)
    assert made.resolved["dimensions"][0]["sure"] == 0.8


@pytest.mark.parametrize(
    ("dimension", "wrong"),
    [
        ({"judges": ["small", "main"], "sure": 0.8}, "sure: needs `panel: cascade`"),
        ({"judges": ["small"], "panel": "cascade"}, "judges: a cascade needs several judges"),
        ({"judges": ["small", "main"], "panel": "cascade", "repeat": 2}, "repeat: a cascade asks each judge once"),
        (
            {"judges": ["small", "main"], "panel": "cascade", "panel_min": 1},
            "panel_min: in a cascade one judge decides",
        ),
        ({"judges": ["small", "main"], "panel": "cascade", "sure": 0.5}, "sure: "),
        ({"judge": "main", "panel": "cascade"}, "panel: needs `judges`"),
    ],
)
def test_what_makes_no_cascade_is_refused(tmp_path: Path, dimension: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.replace("(", r"\(")):
        pipeline(tmp_path, **dimension)


def check(**judges: ScriptedJudge) -> None:
    names = list(judges)
    asking = PanelSettings(others=tuple(names[1:]), panel="cascade" if len(names) > 1 else "mean")
    check_reply_modes([NamedDimension("d", None, names[0], None, asking)], judges)  # type: ignore[arg-type]


def test_every_judge_before_the_last_must_give_probabilities_and_the_last_must_answer_everything() -> None:
    verifier = weighing(1.0, kinds=("verdict",))
    check(small=verifier, main=saying("[[1]]"))
    with pytest.raises(ConfigError, match="the judge small gives no probabilities"):
        check(small=saying("x", "small"), main=saying("[[1]]"))
    with pytest.raises(ConfigError, match="put small before another one in a cascade"):
        check(small=verifier)
    with pytest.raises(ConfigError, match="put small before another one in a cascade"):
        check(main=weighing(1.0, "main"), small=verifier)


async def test_a_plan_counts_every_judge_of_a_cascade(tmp_path: Path) -> None:
    alone = await plan_pipeline(pipeline(tmp_path))
    both = await plan_pipeline(pipeline(tmp_path, judges=["small", "main"], panel="cascade"))
    assert alone.dimensions["helpfulness"].calls == 1
    assert both.dimensions["helpfulness"].calls == 2
    assert both.dimensions["helpfulness"].bound_calls >= 2 * alone.dimensions["helpfulness"].bound_calls
