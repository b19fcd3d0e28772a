"""The Ray executor, on real Ray: workers of a cluster that is started on this machine."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrf
from judge_server import Books, JudgeServer
from lrf.errors import JudgeMisconfiguredError, RateLimitedError, StageError, UnavailableError
from lrf.prompting.expectations import Text
from lrf.prompting.requests import Request
from lrf.prompting.templates import Segment
from lrf.protocols import Capabilities
from lrf_ray.executor import RayExecutor
from lrf_ray.pool import _order
from lrf_ray.settings import RaySettings
from lrf_ray.worker import Description, Failure, Worker
from project import Project

WORKERS = 2


@given(near=st.binary(max_size=16), workers=st.integers(1, 12))
def test_a_document_has_its_order_of_workers_and_one_worker_more_moves_only_what_becomes_its_own(
    near: bytes, workers: int
) -> None:
    order = _order(near, workers)
    assert sorted(order) == list(range(workers))
    assert [place for place in _order(near, workers + 1) if place != workers] == list(order)


class Odd:
    """A judge that says which process it works in, and fails as it is told."""

    identity, capabilities = {"type": "odd"}, Capabilities(seed=True)
    max_concurrency, request_timeout_s = 2, 60.0

    async def complete(self, request: Request) -> lrf.Reply:
        wish = request.prompt[-1].text
        if wish == "limited":
            raise RateLimitedError("slow down, sk-secret-of-a-worker", retry_after_s=7.0)
        if wish == "die":
            os._exit(1)
        return lrf.Reply(str(os.getpid()))

    async def aclose(self) -> None:
        return None


def odd(error: Exception | None) -> Odd:
    from lrf.text.redaction import hide

    hide("sk-secret-of-a-worker", "ODD_KEY")
    if error is not None:
        raise error
    return Odd()


def asking(document: str, wish: str = "") -> Request:
    prompt = (Segment("Answer."), Segment(document, trusted=False), Segment(wish, trusted=False))
    return Request(prompt, Text(), 16, 0.0, "text", None)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Workers find this module."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.mark.slow
async def test_calls_on_one_document_share_a_worker_and_a_lost_worker_is_made_again(here: None) -> None:
    judge = RayExecutor(RaySettings(workers=WORKERS)).place("judge", "main", partial(odd, None))
    try:
        assert (judge.identity, judge.capabilities) == (Odd.identity, Odd.capabilities)
        assert judge.max_concurrency == 2 * WORKERS
        of_many: set[str] = set()
        while len(of_many) < WORKERS:  # until all have started
            of_many.add((await judge.complete(asking(f"document {random.random()}"))).text)
            await asyncio.sleep(0.05)
        of_one = {(await judge.complete(asking("one document"))).text for _ in range(4)}
        assert len(of_one) == 1
        assert of_one != {str(os.getpid())}
        with pytest.raises(RateLimitedError, match=r"slow down, \$\{ODD_KEY\}") as limited:
            await judge.complete(asking("one document", "limited"))
        assert limited.value.retry_after_s == 7.0
        with pytest.raises(UnavailableError, match=r"worker . of judges\.main") as lost:
            await judge.complete(asking("one document", "die"))
        assert lost.value.sent
        assert (await judge.complete(asking("one document"))).text not in of_one
    finally:
        await judge.aclose()
        await judge.aclose()


@pytest.mark.slow
def test_what_a_worker_can_not_make_is_raised_as_it_would_be_here(here: None) -> None:
    executor = RayExecutor(RaySettings(workers=1))
    with pytest.raises(JudgeMisconfiguredError, match="no such model") as error:
        executor.place("judge", "main", partial(odd, JudgeMisconfiguredError("no such model", certain=False)))
    assert not error.value.certain
    with pytest.raises(StageError, match=r"judges.main: its worker can't start: .*"):
        executor.place("judge", "main", partial(odd, ValueError("odd")))


async def test_a_worker_says_what_the_run_must_know_and_hands_errors_on_as_values_without_keys() -> None:
    worker = Worker(partial(odd, None))
    await worker.aclose()  # before anything was made
    described = await worker.describe()
    assert isinstance(described, Description)
    assert (described.identity, described.max_concurrency, described.batch_size) == ({"type": "odd"}, 2, None)
    assert described.capabilities == Odd.capabilities
    reply = await worker.call("complete", (asking("document"),))
    assert reply.text == str(os.getpid())
    limited = await worker.call("complete", (asking("document", "limited"),))
    assert isinstance(limited, Failure)
    assert (str(limited.error), limited.error.__traceback__) == ("slow down, ${ODD_KEY}", None)
    assert await worker.metrics() == {}
    await worker.aclose()
    refused = await Worker(partial(odd, JudgeMisconfiguredError("no such model"))).describe()
    assert isinstance(refused, Failure)


def test_a_cluster_that_is_not_there_is_named_and_an_embedder_stays_here_unless_it_is_to_move() -> None:
    with pytest.raises(StageError, match=r"the Ray cluster at 127\.0\.0\.1:9 can't be joined"):
        RayExecutor(RaySettings(address="127.0.0.1:9")).place("judge", "main", partial(odd, None))
    assert isinstance(RayExecutor(RaySettings()).place("embedder", "main", partial(odd, None)), Odd)


def pipeline(project: Project, **changes: Any) -> dict[str, Any]:
    return project.with_evidence(executor={"type": "ray", "workers": WORKERS}, **changes)


def undisturbed(project: Project, server: JudgeServer) -> int:
    """The calls of a run without workers, in a folder of its own; those of the next run take 0.1 s each."""
    assert lrf.run(project.with_evidence(), runs=project.folder / "here").exit_code == 0
    calls, server.books, server.delay_s = server.books.calls, Books(), 0.1
    return calls


def has_the_same_files(project: Project) -> bool:
    there, here = project.run_dir, project.folder / "here" / "run"
    names = ("rewards.jsonl", "judgements.jsonl", "pairs.jsonl")
    return all((there / name).read_bytes() == (here / name).read_bytes() for name in names)


def kill_a_worker() -> None:
    """SIGKILL one of this user's Ray workers that has a component."""
    found = subprocess.run(["pgrep", "-f", "ray::Worker"], capture_output=True, text=True).stdout.split()
    if found:
        os.kill(int(random.choice(found)), signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_are_killed_in_a_run_cost_no_more_than_the_calls_in_flight(
    project: Project, judge_server: JudgeServer
) -> None:
    project.write_data(12)
    calls = undisturbed(project, judge_server)
    kills, slots = 3, 2 * 8
    moments = [calls // 5, calls // 2, 4 * calls // 5]

    def kill() -> None:
        for moment in moments:
            judge_server.wait_for_calls(moment)
            kill_a_worker()

    killer = threading.Thread(target=kill)
    killer.start()
    summary = lrf.run(pipeline(project), runs=project.runs)
    killer.join()
    assert summary.exit_code == 0, summary
    assert has_the_same_files(project)
    assert calls <= judge_server.books.calls <= calls + kills * slots


@pytest.mark.slow
def test_a_run_that_is_killed_with_its_workers_pays_again_only_for_what_was_in_flight(
    project: Project, judge_server: JudgeServer
) -> None:
    project.write_data(8)
    calls = undisturbed(project, judge_server)
    file = project.write(pipeline(project))
    for part in (0.3, 0.7):
        command = [sys.executable, "-m", "lrf", "run", str(file), "--runs", str(project.runs)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            judge_server.wait_for_calls(int(part * calls))
            process.kill()
    summary = lrf.run(file, runs=project.runs)
    assert summary.exit_code == 0, summary
    assert has_the_same_files(project)
    assert judge_server.books.calls <= calls + 2 * 2 * WORKERS * 8
