"""The judge ``openai`` by the batch API of a provider on this machine."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import lrf
from batch_provider import BatchProvider
from lrf.cli.main import cli
from lrf.errors import (
    BadReplyError,
    ContextTooSmallError,
    JudgeMisconfiguredError,
    RateLimitedError,
    RejectedError,
    RunInterruptedError,
    TimedOutError,
    UnavailableError,
)
from lrf.prompting.expectations import Text
from lrf.prompting.requests import Reply, Request
from lrf.prompting.templates import Segment
from lrf.protocols import Detachable, Judge
from lrf.testing import check_judge
from lrf_openai.batch_server import BatchServer
from lrf_openai.judge import OpenAIJudge
from lrf_openai.settings import OpenAIJudgeSettings
from lrf_openai.spool import RequestSpool
from project import Project

FAST = {"quiet_s": 0.05, "poll_s": 0.02}


@pytest.fixture
def provider() -> Iterator[BatchProvider]:
    server = BatchProvider()
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf_openai.batches.backoff_s", lambda tries: 0.02)


def judge(provider: BatchProvider, batch: dict[str, Any] | None = None, **settings: Any) -> OpenAIJudge:
    given = {"base_url": provider.base_url, "model": "sim", "batch": FAST | (batch or {}), **settings}
    return OpenAIJudge(OpenAIJudgeSettings(**given))


def ask(number: int, **changes: Any) -> Request:
    prompt = (Segment(f"Question number {number} of the batch."),)
    return Request(**{"prompt": prompt, "expects": Text(), "max_tokens": 64, "temperature": 0.01, **changes})


async def ask_all(judge: OpenAIJudge, requests: list[Request]) -> list[Reply | BaseException]:
    try:
        return await asyncio.gather(*(judge.complete(r) for r in requests), return_exceptions=True)
    finally:
        await judge.aclose()


async def left_in_flight(provider: BatchProvider, requests: int = 1) -> None:
    """A judge whose batch is submitted and not finished goes away."""
    provider.held = True
    gone = judge(provider)
    waiting = [asyncio.create_task(gone.complete(ask(n))) for n in range(requests)]
    await asyncio.to_thread(provider.wait_for_batches, 1)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await gone.aclose()


def texts(replies: list[Reply | BaseException]) -> list[str]:
    return [reply.text for reply in replies if isinstance(reply, Reply)]


def sizes(provider: BatchProvider) -> list[int]:
    """How many requests each batch has."""
    return [len(provider.files[b["input_file_id"]].splitlines()) for b in provider.batches.values()]


async def test_requests_that_come_together_are_one_batch_and_each_gets_its_own_reply(provider: BatchProvider) -> None:
    replies = await ask_all(judge(provider), [ask(n) for n in range(40)])
    assert texts(replies) == [provider.reply(f"Question number {n} of the batch.", 0.01) for n in range(40)]
    assert sizes(provider) == [40]
    assert provider.books.calls == 0  # none by the address of single calls
    first = replies[0]
    assert isinstance(first, Reply)
    assert first.usage.prompt_tokens > 0


async def test_a_batch_is_submitted_when_it_has_as_many_requests_as_it_may(provider: BatchProvider) -> None:
    replies = await ask_all(judge(provider, {"max_requests": 16}), [ask(n) for n in range(40)])
    assert len(texts(replies)) == 40
    assert sizes(provider) == [16, 16, 8]


async def test_a_batch_is_submitted_when_its_file_is_as_large_as_it_may_be(provider: BatchProvider) -> None:
    replies = await ask_all(judge(provider, {"max_bytes": 2_000}), [ask(n) for n in range(20)])
    assert len(texts(replies)) == 20
    assert len(provider.batches) > 1
    assert all(len(provider.files[b["input_file_id"]]) <= 2_000 for b in provider.batches.values())


async def test_a_request_larger_than_any_batch_is_rejected_and_the_others_go(provider: BatchProvider) -> None:
    large = ask(1, prompt=(Segment("x" * 3_000),))
    replies = await ask_all(judge(provider, {"max_bytes": 2_000}), [large, ask(2)])
    assert isinstance(replies[0], RejectedError)
    assert "batch.max_bytes: 2000" in str(replies[0])
    assert len(texts(replies)) == 1


async def test_equal_requests_that_are_different_draws_or_attempts_stay_different(provider: BatchProvider) -> None:
    await ask_all(judge(provider), [ask(1), ask(1, repeat=1), ask(1, attempt=1), ask(1, round=1), ask(1)])
    assert sizes(provider) == [4]  # the fifth is the first again


async def test_the_requests_are_those_that_would_have_been_sent_at_once(provider: BatchProvider) -> None:
    await ask_all(judge(provider, seed=True, extra_body={"top_p": 0.9}), [ask(7, seed=3)])
    (batch,) = provider.batches.values()
    (line,) = [json.loads(x) for x in provider.files[batch["input_file_id"]].splitlines()]
    assert (line["method"], line["url"], batch["endpoint"]) == ("POST", *(2 * ["/v1/chat/completions"]))
    assert line["body"] == {
        "model": "sim",
        "messages": [{"role": "user", "content": "Question number 7 of the batch."}],
        "max_tokens": 64,
        "temperature": 0.01,
        "seed": 3,
        "top_p": 0.9,
    }


async def test_another_address_of_completions_can_be_named(provider: BatchProvider) -> None:
    await ask_all(judge(provider, {"endpoint": "/v4/chat/completions"}), [ask(1)])
    assert next(iter(provider.batches.values()))["endpoint"] == "/v4/chat/completions"


async def test_what_an_earlier_process_left_in_flight_is_waited_for_and_not_submitted_again(
    provider: BatchProvider,
) -> None:
    await left_in_flight(provider, 10)
    asked = asyncio.create_task(ask_all(judge(provider), [ask(n) for n in range(15)]))
    await asyncio.to_thread(provider.wait_for_batches, 2)  # of the five that are new
    provider.held = False
    assert len(texts(await asked)) == 15
    assert sizes(provider) == [10, 5]
    assert set(provider.taken.values()) == {1}


async def test_what_ended_meanwhile_is_read_and_only_the_rest_is_submitted(provider: BatchProvider) -> None:
    for upto in (6, 12):
        await ask_all(judge(provider, {"max_requests": 4}), [ask(n) for n in range(upto)])
    assert sizes(provider) == [4, 2, 4, 2]
    assert set(provider.taken.values()) == {1}


async def test_what_failed_in_an_earlier_life_is_submitted_again_without_a_word(provider: BatchProvider) -> None:
    provider.outcome = lambda place, line: provider.completion(place, line) if place else None
    provider.ends = "expired"
    replies = await ask_all(judge(provider), [ask(n) for n in range(3)])
    assert [type(r) for r in replies].count(TimedOutError) == 1
    provider.outcome, provider.ends = provider.completion, "completed"
    assert len(texts(await ask_all(judge(provider), [ask(n) for n in range(3)]))) == 3
    assert sizes(provider) == [3, 1]


async def test_batches_of_another_judge_are_left_alone(provider: BatchProvider) -> None:
    await ask_all(judge(provider), [ask(1)])
    await ask_all(judge(provider, model="another"), [ask(1)])
    await ask_all(judge(provider, extra_body={"top_p": 0.5}), [ask(1)])
    assert len(provider.batches) == 3


async def test_files_that_were_deleted_at_the_provider_are_as_if_there_had_been_no_batch(
    provider: BatchProvider,
) -> None:
    await ask_all(judge(provider), [ask(1)])
    provider.files.clear()
    assert len(texts(await ask_all(judge(provider), [ask(1)]))) == 1
    assert len(provider.batches) == 2


async def test_a_batch_in_flight_whose_requests_are_unknown_stops_the_run(provider: BatchProvider) -> None:
    await left_in_flight(provider)
    provider.files.clear()
    (found,) = await ask_all(judge(provider), [ask(2)])
    assert isinstance(found, JudgeMisconfiguredError)
    assert "is in flight, and the list of its requests can't be read" in str(found)


async def test_a_server_that_keeps_no_metadata_is_refused_and_its_batch_cancelled(provider: BatchProvider) -> None:
    provider.keeps_metadata = False
    (found,) = await ask_all(judge(provider), [ask(1)])
    assert isinstance(found, JudgeMisconfiguredError)
    assert "keeps no metadata" in str(found)
    assert [b["status"] for b in provider.batches.values()] == ["cancelled"]


async def test_of_batches_with_the_same_request_the_newest_counts(provider: BatchProvider) -> None:
    provider.outcome = lambda place, line: {"status_code": 200, "body": {"choices": []}}
    (bad,) = await ask_all(judge(provider), [ask(1)])
    assert isinstance(bad, BadReplyError)
    provider.outcome = provider.completion
    again = judge(provider)
    with pytest.raises(BadReplyError):
        await again.complete(ask(1))
    assert (await again.complete(ask(1))).text
    await again.aclose()
    assert len(texts(await ask_all(judge(provider), [ask(1)]))) == 1
    assert len(provider.batches) == 2


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (429, "rate_limit_exceeded", RateLimitedError),
        (429, "insufficient_quota", JudgeMisconfiguredError),
        (500, None, UnavailableError),
        (400, "context_length_exceeded", ContextTooSmallError),
        (401, None, JudgeMisconfiguredError),
    ],
)
async def test_an_error_in_a_batch_is_of_the_class_that_it_would_have_been_at_once(
    provider: BatchProvider, status: int, code: str | None, kind: type[Exception]
) -> None:
    error = {"status_code": status, "body": {"error": {"message": "no", "code": code}}}
    provider.outcome = lambda place, line: provider.completion(place, line) if place else error
    replies = await ask_all(judge(provider), [ask(1), ask(2)])
    assert sorted(type(r).__name__ for r in replies) == sorted(["Reply", kind.__name__])


async def test_what_failed_is_submitted_again_when_it_is_asked_again(provider: BatchProvider) -> None:
    outcomes = iter([{"status_code": 500, "body": {}}])
    provider.outcome = lambda place, line: next(outcomes, None) or provider.completion(place, line)
    asked = judge(provider)
    with pytest.raises(UnavailableError):
        await asked.complete(ask(1))
    assert (await asked.complete(ask(1))).text
    await asked.aclose()
    assert sizes(provider) == [1, 1]


async def test_a_batch_that_was_cancelled_stops_the_run_and_the_next_one_submits_the_rest(
    provider: BatchProvider,
) -> None:
    provider.outcome = lambda place, line: provider.completion(place, line) if place else None
    provider.ends = "cancelled"
    replies = await ask_all(judge(provider), [ask(n) for n in range(3)])
    (stop,) = [r for r in replies if isinstance(r, JudgeMisconfiguredError)]
    assert "was cancelled at the provider" in str(stop)
    provider.outcome, provider.ends = provider.completion, "completed"
    assert len(texts(await ask_all(judge(provider), [ask(n) for n in range(3)]))) == 3
    assert sizes(provider) == [3, 1]


async def test_a_request_that_a_batch_says_nothing_of_is_a_fault(provider: BatchProvider) -> None:
    provider.outcome = lambda place, line: None
    (found,) = await ask_all(judge(provider), [ask(1)])
    assert isinstance(found, UnavailableError)


@pytest.mark.parametrize(
    "result",
    [
        {"response": [1]},
        {"response": "x"},
        {"response": {"status_code": "200"}},
        {"response": {"status_code": 200}},
        {"response": {"status_code": 200, "body": "text"}},
        {"response": {"status_code": 500, "body": [1]}},
        {"error": ["x"]},
    ],
    ids=str,
)
async def test_an_odd_result_is_a_fault_of_its_request_alone(provider: BatchProvider, result: dict[str, Any]) -> None:
    provider.results = lambda results: [{"custom_id": results[0]["custom_id"], **result}, *results[1:]]
    replies = await ask_all(judge(provider), [ask(1), ask(2)])
    assert [isinstance(r, UnavailableError | BadReplyError) for r in replies].count(True) == 1
    assert len(texts(replies)) == 1


@pytest.mark.parametrize("odd", ["<html>login</html>", "{}", "[]", '{"data": [1]}', '{"id": 7, "data": null}', ""])
@pytest.mark.parametrize("path", ["GET /v1/batches/", "GET /v1/files/"])
async def test_an_odd_answer_about_a_batch_pays_for_nothing_again(
    provider: BatchProvider, path: str, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_openai.batches.TRIES", 2)
    provider.texts_of = {path: odd}
    asked = judge(provider)
    with pytest.raises((BadReplyError, UnavailableError)):
        await asked.complete(ask(1))
    provider.texts_of = {}
    assert (await asked.complete(ask(1))).text
    await asked.aclose()
    assert len(provider.batches) == 1


@pytest.mark.parametrize("odd", ["<html>login</html>", "{}", "[]", '{"data": [1]}'])
async def test_an_odd_list_of_batches_is_not_empty(
    provider: BatchProvider, odd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrf_openai.batches.AGAIN_S", 0.01)
    await ask_all(judge(provider), [ask(1)])
    provider.texts_of = {"GET /v1/batches": odd}
    asked = judge(provider)
    with pytest.raises(BadReplyError, match="can't list the batches"):
        await asked.complete(ask(1))
    provider.texts_of = {}
    await asyncio.sleep(0.05)
    assert (await asked.complete(ask(1))).text
    await asked.aclose()
    assert len(provider.batches) == 1


@pytest.mark.parametrize("odd", ["<html>login</html>", "{}", "[]", ""])
async def test_an_odd_answer_about_batches_in_flight_pays_for_nothing_again(provider: BatchProvider, odd: str) -> None:
    await left_in_flight(provider)
    provider.texts_of = {"GET /v1/files/": odd}
    (reply,) = await ask_all(judge(provider), [ask(0)])
    assert isinstance(reply, BadReplyError)
    provider.held, provider.texts_of = False, {}
    assert texts(await ask_all(judge(provider), [ask(0)]))
    assert len(provider.batches) == 1


async def test_a_status_that_is_not_known_is_waited_for(provider: BatchProvider) -> None:
    provider.held = True
    asked = judge(provider)
    waiting = asyncio.create_task(asked.complete(ask(1)))
    await asyncio.to_thread(provider.wait_for_batches, 1)
    (batch,) = provider.batches.values()
    batch["status"] = "paused"
    await asyncio.sleep(0.1)
    batch["status"], provider.held = "in_progress", False
    assert (await waiting).text
    await asked.aclose()
    assert len(provider.batches) == 1


async def test_keys_do_not_follow_a_redirect_elsewhere(
    provider: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "zq-key")
    monkeypatch.setenv("GATEWAY_KEY", "zq-gateway")
    elsewhere = BatchProvider()
    elsewhere.files = provider.files
    elsewhere.start()
    provider.kept_at = elsewhere.base_url
    try:
        asked = judge(provider, header_env={"api-key": "GATEWAY_KEY"})
        assert texts(await ask_all(asked, [ask(1)]))
    finally:
        elsewhere.stop()
    assert provider.keys[0] == ("Bearer zq-key", "zq-gateway")
    assert elsewhere.keys == [(None, None)]


async def test_over_the_limit_of_waiting_tokens_batches_get_smaller_and_go_one_by_one(provider: BatchProvider) -> None:
    at_once: list[int] = []

    def refuse(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        flying = [b for b in provider.batches.values() if b["status"] == "in_progress"]
        at_once.append(len(flying))
        message = "Enqueued token limit reached. Limit: 2,000,000 enqueued tokens."
        return [{"code": "token_limit_exceeded", "line": None, "message": message}] if len(lines) > 5 or flying else []

    provider.refuse = refuse
    replies = await ask_all(judge(provider, {"max_requests": 10}), [ask(n) for n in range(20)])
    assert len(texts(replies)) == 20
    assert set(provider.taken.values()) == {1}
    taken = [size for size, b in zip(sizes(provider), provider.batches.values(), strict=True) if b["output_file_id"]]
    assert taken == [5, 5, 5, 5]
    assert at_once[-3:] == [0, 0, 0]


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        ("token_limit_exceeded", "Limit: 90,000", RateLimitedError),  # though it's alone: it waits its turn
        ("model_not_found", "no batches for sim", JudgeMisconfiguredError),
    ],
)
async def test_a_batch_that_is_refused_as_a_whole_says_so_in_the_providers_words(
    provider: BatchProvider, code: str, message: str, kind: type[Exception]
) -> None:
    provider.refuse = lambda lines: [{"code": code, "line": None, "message": message}]
    (error,) = await ask_all(judge(provider), [ask(1)])
    assert isinstance(error, kind)
    assert message in str(error)


async def test_lines_that_the_provider_refuses_are_rejected_and_the_others_submitted_again(
    provider: BatchProvider,
) -> None:
    def refuse(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        bad = [n for n, line in enumerate(lines, 1) if "number 2 of" in str(line)]
        return [{"code": "invalid_json_line", "line": n, "message": "This line is not parseable."} for n in bad]

    provider.refuse = refuse
    replies = await ask_all(judge(provider), [ask(n) for n in range(4)])
    assert isinstance(replies[2], RejectedError)
    assert len(texts(replies)) == 3


@pytest.mark.parametrize("path", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /v1/files/"])
async def test_a_server_that_fails_now_and_then_is_asked_again(provider: BatchProvider, path: str) -> None:
    provider.faults_of = {path: [503, 429]}
    assert len(texts(await ask_all(judge(provider), [ask(1), ask(2)]))) == 2
    assert set(provider.taken.values()) == {1}


async def test_a_connection_that_breaks_while_a_batch_is_made_makes_no_second_one(provider: BatchProvider) -> None:
    provider.faults_of = {"POST /v1/batches": [1]}
    assert len(texts(await ask_all(judge(provider), [ask(1), ask(2)]))) == 2
    assert len(provider.batches) == 1


async def test_a_wrong_key_stops_the_run_and_is_not_shown(provider: BatchProvider, monkeypatch: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret-0123456789")
    provider.faults_of = {"GET /v1/batches": [401]}
    (found,) = await ask_all(judge(provider), [ask(1)])
    assert isinstance(found, JudgeMisconfiguredError)
    assert "status 401" in str(found)
    assert "sk-very" not in str(found)


async def test_it_passes_lrfs_own_check_for_judges(provider: BatchProvider) -> None:
    await check_judge(judge(provider))
    assert sizes(provider) == [5]


async def test_it_waits_as_long_as_a_batch_may_and_tells_so(provider: BatchProvider) -> None:
    asked = judge(provider, {"max_waiting": 300})
    assert isinstance(asked, Judge)
    assert isinstance(asked, Detachable)
    assert asked.max_concurrency == 300
    assert asked.request_timeout_s > 7 * 86_400
    assert not asked.capabilities.steady
    assert asked.identity == judge(provider, {"max_waiting": 5}).identity  # replies are the same however they come
    assert asked.detach() is None
    await asked.aclose()


async def test_a_stopped_run_ends_all_waiting_and_reports_the_batches_that_stay(provider: BatchProvider) -> None:
    provider.held = True
    asked = judge(provider)
    waiting = asyncio.gather(*(asked.complete(ask(n)) for n in range(3)), return_exceptions=True)
    looked_at = asyncio.to_thread(provider.wait_until, lambda: max(provider.asked_for.values(), default=0) > 1)
    assert await looked_at
    said = asked.detach()
    assert said is not None
    assert "batches in flight: 1, with 3 requests; they stay at the provider" in said
    assert [type(e) for e in await waiting] == [RunInterruptedError] * 3
    await asked.aclose()


async def test_what_was_being_submitted_at_a_stop_is_found_when_the_judge_is_asked_again(
    provider: BatchProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = BatchServer.submit

    def slowly(self: BatchServer, spool: RequestSpool) -> Any:
        made = submit(self, spool)
        time.sleep(0.3)
        return made

    monkeypatch.setattr(BatchServer, "submit", slowly)
    asked = judge(provider)
    waiting = asyncio.create_task(asked.complete(ask(1)))
    await asyncio.to_thread(provider.wait_for_batches, 1)
    assert asked.detach() is not None
    with pytest.raises(RunInterruptedError):
        await waiting
    assert (await asked.complete(ask(1))).text
    await asked.aclose()
    assert set(provider.taken.values()) == {1}


async def test_a_run_stopped_before_it_knows_the_batches_in_flight_submits_nothing(provider: BatchProvider) -> None:
    provider.list_delay_s = 1.0
    asked = judge(provider)
    waiting = asyncio.gather(*(asked.complete(ask(n)) for n in range(5)), return_exceptions=True)
    await asyncio.sleep(0.05)
    assert asked.detach() is None
    assert [type(e) for e in await waiting] == [RunInterruptedError] * 5
    await asyncio.sleep(0.2)
    await asked.aclose()
    assert provider.batches == {}


async def test_a_server_that_is_down_at_the_start_is_asked_once_for_all_waiting_calls(provider: BatchProvider) -> None:
    provider.faults_of = {"GET /v1/batches": [503] * 9}
    replies = await ask_all(judge(provider), [ask(n) for n in range(50)])
    assert [type(r) for r in replies] == [UnavailableError] * 50
    assert provider.asked_for["GET /v1/batches"] == 1


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, provider: BatchProvider) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(JudgeMisconfiguredError, match=r"pip install 'lrf\[openai\]'"):
        judge(provider)


def test_without_batches_the_package_is_not_imported() -> None:
    code = "import lrf_openai.judge, sys; assert not {'openai', 'httpx2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def batched(tmp_path: Path, provider: BatchProvider) -> Project:
    project = Project(tmp_path, provider.base_url)
    project.write_data(2)
    return project


def pipeline(project: Project, batch: bool = True) -> Path:
    made = project.pipeline()
    if batch:
        made["judges"]["main"] |= {"batch": {"quiet_s": 0.3, "poll_s": 0.05}}
    return project.write(made)


def command(file: Path, project: Project) -> list[str]:
    return [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(project.runs)]


def finished_files(project: Project, file: Path) -> dict[str, bytes]:
    done = subprocess.run(command(file, project), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return project.files()


def undisturbed(project: Project) -> dict[str, bytes]:
    """The files of a run that asks at once."""
    runs, project.runs = project.runs, project.folder / "undisturbed"
    assert lrf.run(pipeline(project, batch=False), runs=project.runs).exit_code == 0
    files = project.files()
    project.runs = runs
    return files


def test_a_run_killed_and_then_interrupted_amid_a_batch_pays_nothing_twice(
    batched: Project, provider: BatchProvider
) -> None:
    files = undisturbed(batched)
    file = pipeline(batched)
    provider.held = True
    killed = subprocess.Popen(command(file, batched), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert provider.wait_for_batches(1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    provider.asked_for.clear()
    interrupted = subprocess.Popen(command(file, batched), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert provider.wait_until(lambda: max(provider.asked_for.values(), default=0) > 3)  # it looks at the batch
    interrupted.send_signal(signal.SIGINT)
    _, err = interrupted.communicate(timeout=90)
    assert interrupted.returncode == 130
    assert "batches in flight: 1, with 20 requests; they stay at the provider" in err
    summary = json.loads((batched.run_dir / "summary.json").read_text())
    assert (summary["status"], summary["stages"]["score"]["faults"]) == ("interrupted", 0)
    provider.held = False
    assert finished_files(batched, file) == files
    assert set(provider.taken.values()) == {1}
    assert sizes(provider) == [20]


@pytest.mark.slow
def test_a_run_that_is_killed_at_random_moments_pays_nothing_twice(batched: Project, provider: BatchProvider) -> None:
    batched.write_data(6)
    files = undisturbed(batched)
    file = pipeline(batched)
    rng = random.Random(5)
    for _ in range(6):
        process = subprocess.Popen(command(file, batched), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(1.0, 4.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert finished_files(batched, file) == files
    assert set(provider.taken.values()) == {1}


def test_a_whole_batch_that_fails_is_tried_again_as_a_whole(batched: Project, provider: BatchProvider) -> None:
    batched.write_data(4)
    file = pipeline(batched)
    broken = {"status_code": 500, "body": {}}
    provider.outcome = lambda place, line: broken if len(provider.batches) == 1 else provider.completion(place, line)
    summary = lrf.run(file, runs=batched.runs)
    assert (summary.exit_code, summary.stages["score"]["scored"]) == (0, 20)
    assert sizes(provider)[0] == 40
    assert len(provider.batches) <= 3


def test_submitted_batches_are_waited_for_when_the_budget_is_reached(batched: Project, provider: BatchProvider) -> None:
    values = yaml.safe_load(pipeline(batched).read_text()) | {"budget": {"calls": 7}}
    summary = lrf.run(batched.write(values), runs=batched.runs)
    assert summary.exit_code == 4
    assert summary.stages["score"]["calls"] == 7
    assert sum(provider.taken.values()) == 7


def test_a_plan_names_the_batch_discount(batched: Project) -> None:
    prices = batched.folder / "prices.yaml"
    entry = {"model": "sim", "input": 2, "output": 8, "batch_discount": 0.5}
    prices.write_text(yaml.safe_dump({"version": "t", "currency": "USD", "models": [entry]}))
    spent = []
    for batch in (False, True):
        values = yaml.safe_load(pipeline(batched, batch).read_text()) | {"prices": str(prices)}
        file = batched.write(values)
        done = CliRunner().invoke(cli, ["plan", str(file), "--json"])
        assert done.exit_code == 0, done.output
        plan = json.loads(done.stdout)
        assert plan["batches"] == (["main"] if batch else [])
        spent.append(plan["total"]["price"])
    assert spent[1] == pytest.approx(spent[0] / 2)
