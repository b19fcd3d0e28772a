"""Stage *sample*: the policy writes the candidates that the data lacks; nothing is paid twice, nothing gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import lrf
from judge_server import JudgeServer
from lrf.cli.main import cli
from lrf.config import parse_pipeline
from lrf.errors import ConfigError, DataError
from lrf.evaluation.run import read_run
from lrf.plugin.catalog import load_catalog
from lrf.stages import feeding
from policy_server import PolicyServer
from project import Project, sample_row

Sampler = dict[str, Any]


@pytest.fixture
def policy() -> Iterator[PolicyServer]:
    server = PolicyServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def sampler(policy: PolicyServer) -> Sampler:
    return {"type": "openai", "base_url": policy.base_url, "model": "policy", "n": 4, "seed": True, "max_tokens": 64}


def without_candidates(number: int, **more: Any) -> dict[str, Any]:
    return {k: v for k, v in sample_row(number).items() if k != "candidates"} | more


def run(project: Project, sampler: Sampler, **more: Any) -> Any:
    last = more.pop("last", "sample")
    first = more.pop("first", None)
    more = {"pairs": {"type": "best_worst", "min_candidates": 2}, **more}
    return lrf.run(project.pipeline(sample=sampler, **more), runs=project.runs, first=first, last=last)


def test_a_run_goes_from_prompts_to_candidates_to_rewards_to_pairs(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(i) for i in range(3)])
    summary = run(project, sampler, last="pairs")
    assert (summary.status, summary.message) == ("finished", "")
    rows = project.lines("candidates.jsonl")
    assert [r["sample_id"] for r in rows] == ["sample-0", "sample-1", "sample-2"]
    assert [len(r["candidates"]) for r in rows] == [4, 4, 4]
    rewards = project.lines("rewards.jsonl")
    assert [r["candidate_id"] for r in rewards[:4]] == ["sampled-0", "sampled-1", "sampled-2", "sampled-3"]
    counts = summary.stages["sample"]
    assert (counts["samples"], counts["sampled"], counts["left_out"], counts["drawn"], counts["calls"]) == (
        3, 3, 0, 12, 12
    )  # fmt: skip
    texts = {c["text"] for r in rows for c in r["candidates"]}
    pairs = project.lines("pairs.jsonl")
    assert pairs
    assert all(p["chosen"][0]["content"] in texts for p in pairs)
    assert "candidates" in summary.files


def test_a_candidate_has_its_author_and_seed(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    project.write_data([without_candidates(0)])
    run(project, sampler)
    candidate = project.lines("candidates.jsonl")[0]["candidates"][0]
    assert candidate["source"] == "policy"
    about = candidate["metadata"]
    assert about["finish"] == "stop"
    assert about["seed"] in [b["seed"] for b in policy.bodies]
    assert about["prompt_tokens"] > 0
    assert about["completion_tokens"] == len(candidate["text"]) // 4


def test_the_policy_gets_the_pipelines_template(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    row = without_candidates(0)
    project.write_data([row])
    run(project, sampler, policy={"prompt_template": "Q: <<question>>\nD: <<context>>"})
    assert policy.bodies[0]["messages"] == [{"role": "user", "content": f"Q: {row['query']}\nD: {row['context']}"}]
    assert policy.bodies[0]["temperature"] == 1.0
    assert policy.bodies[0]["max_tokens"] == 64
    assert "top_p" not in policy.bodies[0]


def test_messages_of_the_data_are_the_policys_prompt(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "<<context>> Which fee?"}]
    project.write_data([without_candidates(0, messages=turns)])
    run(project, sampler)
    assert policy.bodies[0]["messages"] == turns


def test_only_what_the_data_lacks_is_drawn(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    rows = [sample_row(0, 3), sample_row(1, 5), without_candidates(2)]
    rows[0]["candidates"][0]["id"] = "sampled-0"
    project.write_data(rows)
    summary = run(project, sampler)
    ids = [[c["id"] for c in r["candidates"]] for r in project.lines("candidates.jsonl")]
    assert ids == [
        ["sampled-0", "c1", "c2", "sampled-0+"],
        ["c0", "c1", "c2", "c3", "c4"],
        [f"sampled-{i}" for i in range(4)],
    ]
    assert len(policy.bodies) == 5
    assert (summary.stages["sample"]["given"], summary.stages["sample"]["drawn"]) == (8, 5)


def test_the_same_pipeline_samples_the_same_candidates_whatever_the_order(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(i) for i in range(6)])
    run(project, sampler)
    first = (project.run_dir / "candidates.jsonl").read_bytes()
    lrf.run({**project.pipeline(sample={**sampler, "max_concurrency": 1}), "name": "run"},
            runs=project.folder / "again", last="sample")  # fmt: skip
    assert (project.folder / "again" / "run" / "candidates.jsonl").read_bytes() == first
    run(project, sampler, name="other", seed=1)
    assert (project.runs / "other" / "candidates.jsonl").read_bytes() != first


def test_several_candidates_come_of_one_request(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    project.write_data([without_candidates(0)])
    summary = run(project, {**sampler, "seed": False, "choices": 3})
    assert [b.get("n", 1) for b in policy.bodies] == [3, 1]
    candidates = project.lines("candidates.jsonl")[0]["candidates"]
    assert len({c["text"] for c in candidates}) == 4
    assert all(c["metadata"]["seed"] is None for c in candidates)
    prompt = len(policy.bodies[0]["messages"][0]["content"]) // 4
    assert summary.stages["sample"]["prompt_tokens"] == 2 * prompt
    written = sum(c["metadata"]["completion_tokens"] for c in candidates)
    assert written == summary.stages["sample"]["completion_tokens"] == sum(len(c["text"]) // 4 for c in candidates)


def test_a_server_that_overlooks_n_stops_the_run(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    policy.choices = 1
    project.write_data([without_candidates(0)])
    summary = run(project, {**sampler, "seed": False, "choices": 4})
    assert summary.exit_code == 2
    assert "gave 1 of 4 choices" in summary.message
    assert "`choices: 1`" in summary.message


def test_seeds_need_a_request_a_candidate(sampler: Sampler, project: Project) -> None:
    with pytest.raises(ConfigError, match="`seed: true` needs `choices: 1`"):
        parse_pipeline(project.pipeline(sample={**sampler, "choices": 2}), load_catalog())


def test_equal_candidates_become_one_and_are_counted(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    policy.texts = ["Ten euros.", "Nine euros."]
    project.write_data([without_candidates(0)])
    summary = run(project, {**sampler, "n": 12})
    texts = [c["text"] for c in project.lines("candidates.jsonl")[0]["candidates"]]
    assert sorted(texts) == ["Nine euros.", "Ten euros."]
    assert summary.stages["sample"]["dropped"] == {"duplicate": 10}
    summary = run(project, {**sampler, "n": 12, "duplicates": "keep"})
    assert len(project.lines("candidates.jsonl")[0]["candidates"]) == 12
    assert len(policy.bodies) == 12, "the second run pays nothing"


@pytest.mark.parametrize(("rule", "kept"), [("keep", 4), ("drop", 2)])
def test_a_candidate_that_was_cut_off_is_kept_with_its_finish_or_dropped_as_the_pipeline_says(
    project: Project, sampler: Sampler, policy: PolicyServer, rule: str, kept: int
) -> None:
    policy.fault("cut", times=2)
    project.write_data([without_candidates(0)])
    counts = run(project, {**sampler, "on_cut_off": rule}).stages["sample"]
    finishes = [c["metadata"]["finish"] for c in project.lines("candidates.jsonl")[0]["candidates"]]
    assert len(finishes) == kept
    assert finishes.count("length") == counts["cut_off"] == kept - 2
    assert counts["dropped"] == ({"cut_off": 2} if rule == "drop" else {})


def test_an_unknown_word_for_a_candidates_end_is_kept_with_it_and_shown(
    project: Project, sampler: Sampler, policy: PolicyServer
) -> None:
    policy.fault("odd end", times=2)
    project.write_data([without_candidates(0)])
    summary = run(project, sampler)
    words = [c["metadata"].get("finish_word") for c in project.lines("candidates.jsonl")[0]["candidates"]]
    assert sorted(words, key=str) == [None, None, "fnord", "fnord"]
    (alarm,) = summary.results["sample"].raised
    assert alarm.message.startswith('sample: 2 replies ended with "fnord"')


def test_a_sample_of_which_nothing_is_kept_is_left_out(
    project: Project, sampler: Sampler, policy: PolicyServer
) -> None:
    policy.fault("filter", times=None, when=lambda prompt: "contract of 200" in prompt)
    project.write_data([without_candidates(i) for i in range(3)])
    summary = run(project, sampler, last="pairs", max_unscored=0.5)
    assert summary.status == "finished"
    assert summary.stages["sample"]["reasons"] == {"no_candidates": 1}
    assert project.lines("candidates.jsonl")[1]["left_out"] == {
        "reason": "no_candidates", "detail": "none of 4 was kept: 4 filtered"
    }  # fmt: skip
    assert {r["sample_id"] for r in project.lines("rewards.jsonl")} == {"sample-0", "sample-2"}
    assert summary.stages["pairs"]["samples"] == 2


def test_more_samples_without_candidates_than_allowed_fail_the_run_before_anything_is_judged(
    project: Project, sampler: Sampler, policy: PolicyServer, judge_server: JudgeServer
) -> None:
    policy.fault("filter", times=None, when=lambda prompt: "contract of 200" in prompt)
    project.write_data([without_candidates(i) for i in range(3)])
    summary = run(project, sampler, last="pairs")
    assert summary.exit_code == 3
    assert "1 of 3 samples have no candidates" in summary.message
    assert "no_candidates (1)\n    such as sample sample-1: none of 4 was kept: 4 filtered\n" in summary.message
    assert "what helps: candidates that were cut off: a larger `max_tokens`" in summary.message
    assert judge_server.books.calls == 0


def test_a_failure_that_passes_is_asked_again_by_the_next_run_and_only_that(
    project: Project, sampler: Sampler, policy: PolicyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf.http.backoff.FIRST_S", 0.01)
    policy.fault("html", times=5, when=lambda prompt: "contract of 200" in prompt)
    project.write_data([without_candidates(i) for i in range(2)])
    one = {**sampler, "n": 1}
    summary = run(project, one, max_unscored=0.5)
    assert summary.stages["sample"]["reasons"] == {"judge_bad_reply": 1}
    assert summary.stages["sample"]["faults"] == 5
    calls = len(policy.bodies)
    summary = run(project, one, max_unscored=0.5)
    assert (summary.stages["sample"]["left_out"], len(policy.bodies)) == (0, calls + 1)
    assert run(project, one).stages["sample"]["sampled"] == 2
    assert len(policy.bodies) == calls + 1


def test_a_request_that_was_refused_is_asked_again_by_the_same_command(
    project: Project, sampler: Sampler, policy: PolicyServer
) -> None:
    policy.fault("400", times=1, when=lambda prompt: "contract of 200" in prompt)
    project.write_data([without_candidates(i) for i in range(3)])
    one = {**sampler, "n": 1}
    summary = run(project, one)
    assert summary.exit_code == 3
    assert "judge_rejected (1)\n    such as sample sample-1: " in summary.message
    assert "run the same command again, which asks for these samples only" in summary.message
    calls = len(policy.bodies)
    assert run(project, one).stages["sample"]["sampled"] == 3
    assert len(policy.bodies) == calls + 1


def test_a_wrong_key_stops_the_run_at_once(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    policy.fault("401", times=None)
    project.write_data([without_candidates(i) for i in range(4)])
    summary = run(project, sampler)
    assert (summary.status, summary.exit_code) == ("failed", 2)
    assert "OPENAI_API_KEY" in summary.message
    assert not (project.run_dir / "candidates.jsonl").exists()


def test_a_prompt_that_is_too_long_is_never_sent(project: Project, sampler: Sampler, policy: PolicyServer) -> None:
    project.write_data([without_candidates(0), without_candidates(1, context="A short one.")])
    summary = run(project, {**sampler, "context_window": 120}, max_unscored=0.5)
    assert summary.stages["sample"]["reasons"] == {"context_too_small": 1}
    assert {b["messages"][0]["content"][:11] for b in policy.bodies} == {"A short one"}


def test_a_budget_stops_sampling_and_a_larger_one_resumes_it(
    project: Project, sampler: Sampler, policy: PolicyServer
) -> None:
    project.write_data([without_candidates(i) for i in range(4)])
    summary = run(project, sampler, budget={"calls": 6})
    assert (summary.status, summary.exit_code) == ("stopped", 4)
    assert "samples are sampled; the same command continues" in summary.message
    assert len(policy.bodies) == 6
    summary = run(project, sampler, budget={"calls": 100})
    assert summary.status == "finished"
    assert len(policy.bodies) == 16
    assert summary.stages["sample"]["reused"] + summary.stages["sample"]["calls"] >= 10


def test_a_budget_of_money_counts_the_samplers_calls(project: Project, sampler: Sampler) -> None:
    prices = project.folder / "prices.yaml"
    models = [{"model": m, "input": 1, "output": 2} for m in ("policy", "sim")]
    prices.write_text(yaml.safe_dump({"version": "1", "currency": "EUR", "models": models}))
    project.write_data([without_candidates(0)])
    summary = run(project, sampler, prices=str(prices), budget={"money": 1.0}, last="score")
    assert summary.status == "finished"
    money = summary.stages["score"]["money"]
    tokens = summary.stages["sample"]
    paid = (tokens["prompt_tokens"] + 2 * tokens["completion_tokens"]) / 1e6
    assert money["by_dimension"]["(sampling)"]["EUR"] == pytest.approx(paid)
    assert money["spent"]["EUR"] > paid
    small = run(project, sampler, name="small", prices=str(prices), budget={"money": 0.0001})
    assert small.exit_code == 4


def test_a_budget_of_money_needs_the_samplers_price(project: Project, sampler: Sampler) -> None:
    prices = project.folder / "prices.yaml"
    models = [{"model": "sim", "input": 1, "output": 2}]
    prices.write_text(yaml.safe_dump({"version": "1", "currency": "EUR", "models": models}))
    with pytest.raises(ConfigError, match=r"the sampler \(policy\) has no price"):
        parse_pipeline(project.pipeline(sample=sampler, prices=str(prices), budget={"money": 1}), load_catalog())


def test_scoring_alone_takes_the_candidates_that_are_there(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(0)])
    run(project, sampler)
    summary = run(project, {**sampler, "n": 7}, first="score", last="pairs")
    assert summary.stages["score"]["candidates"] == 4


def test_scoring_before_sampling_says_what_comes_first(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(0)])
    summary = run(project, sampler, first="score", last="score")
    assert summary.exit_code == 1
    assert "sample first (`--from sample`)" in summary.message


def test_candidates_of_other_data_are_not_scored(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(0)])
    run(project, sampler)
    project.write_data([without_candidates(1)])
    assert "not of this data" in run(project, sampler, first="score", last="score").message


def test_sampling_in_an_interpreter_of_its_own_gives_the_same_file(project: Project, sampler: Sampler) -> None:
    import sys

    project.write_data([without_candidates(i) for i in range(2)])
    run(project, sampler)
    run(project, sampler, name="apart", python={"sample": sys.executable})
    apart = (project.runs / "apart" / "candidates.jsonl").read_bytes()
    assert apart == (project.run_dir / "candidates.jsonl").read_bytes()


def test_agreement_is_measured_on_sampled_candidates_too(project: Project, sampler: Sampler) -> None:
    project.write_data([without_candidates(i) for i in range(2)])
    run(project, sampler, last="score")
    scores = read_run(project.run_dir, {"sample-0", "sample-1"})
    assert scores.missing_lengths is None
    assert set(scores.scores["longer"]["sample-0"]) == {f"sampled-{i}" for i in range(4)}


def test_what_failed_is_scored_again_with_the_same_candidates(
    project: Project, sampler: Sampler, policy: PolicyServer, judge_server: JudgeServer
) -> None:
    project.write_data([without_candidates(0)])
    judge_server.fault("garbage", times=5)
    summary = run(project, {**sampler, "n": 1}, last="score", max_unscored=1.0, dimensions=["helpfulness"])
    assert summary.stages["score"]["unscored"] == 1
    only = {"max_unscored": 1.0, "dimensions": ["helpfulness"], "pairs": None}
    pipeline = project.pipeline(sample={**sampler, "n": 1}, **only)
    done = CliRunner().invoke(cli, ["rescore", str(project.write(pipeline)), "--failed", "--runs", str(project.runs)])
    assert done.exit_code == 0, done.output
    assert project.lines("rewards.jsonl")[0]["reward"] is not None
    assert len(policy.bodies) == 1


def test_documents_are_named_to_the_judge(project: Project, sampler: Sampler, judge_server: JudgeServer) -> None:
    texts = sample_row(0)["context"]
    context = [{"text": texts, "title": "Minutes of 3 May"}, {"text": texts[::-1], "id": "annex"}]
    project.write_data([without_candidates(0, context=context)])
    summary = lrf.run(
        project.with_evidence(sample={**sampler, "n": 1}, max_unscored=1.0, pairs=None), runs=project.runs
    )
    assert summary.status == "finished"
    for name in ("Minutes of 3 May", "annex"):
        assert sum(f"] {name}\n" in prompt for prompt in judge_server.books.prompts) >= 2, name


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), DataError("the file broke off")])
def test_a_source_that_breaks_off_loses_no_candidate_in_flight(
    project: Project, sampler: Sampler, policy: PolicyServer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    project.write_data([without_candidates(i) for i in range(3)])
    whole = feeding.samples

    async def broken(source: Any) -> AsyncIterator[Any]:
        async for row in whole(source):
            if row[0] == 2:
                while not policy.bodies:  # noqa: ASYNC110 - another thread's
                    await asyncio.sleep(0.001)
                raise error
            yield row

    monkeypatch.setattr(feeding, "samples", broken)
    summary = run(project, sampler)
    assert summary.status == "failed"
    assert str(error) in summary.message
    assert "of 3 samples are sampled; the same command continues from there" in summary.message
    monkeypatch.undo()
    assert run(project, sampler).status == "finished"
    assert len(policy.bodies) == 12
