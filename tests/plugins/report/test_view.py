"""`lrf view`: an index of a run, a server on this machine only, and labels."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

import lrf
import lrf_report.html
from first_line import FirstLine
from hostile import HOSTILE, sample_of, write_run
from judge_server import JudgeServer
from lrf.cli.main import invoke
from lrf.evaluation.labels import read_labels
from lrf.stages.outcome.text_search import SearchedTexts
from lrf.types import Candidate, Document, Sample
from lrf_report.view.app import View, view_app
from lrf_report.view.labels import Preferences, Ratings
from project import Project
from waiting import until


def indexed(run: Path) -> lrf.RunIndex:
    """The finished index of a run; the test closes it."""
    index = lrf.load_run(run).index()
    deadline = time.monotonic() + 30
    while not index.complete and time.monotonic() < deadline:
        time.sleep(0.01)
    assert index.problem is None
    return index


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("view") / "run", (sample_of(i, t) for i, t in enumerate(HOSTILE)))


@pytest.fixture
def index(run: Path) -> Iterator[lrf.RunIndex]:
    index = indexed(run)
    yield index
    index.close()


def test_an_index_gives_every_sample_as_reading_the_run_does(run: Path, index: lrf.RunIndex) -> None:
    samples = list(lrf.load_run(run))
    for place, sample in enumerate(samples):
        found, around = index.sample(sample.id)
        assert found == sample
        assert around["place"] == place + 1
        assert around["next"] == (samples[place + 1].id if place + 1 < len(samples) else None)
    listed = index.samples(limit=1000)
    assert [row["id"] for row in listed["rows"]] == [s.id for s in samples]
    with pytest.raises(KeyError):
        index.sample("no such")


@pytest.mark.parametrize("text", ["%", "_", "\\", "script", "'; DROP TABLE samples", "{{"])
def test_a_filter_finds_its_text_and_nothing_else(index: lrf.RunIndex, text: str) -> None:
    every = index.samples(limit=1000)["rows"]
    found = index.samples(text, limit=1000)["rows"]
    assert found == [row for row in every if text.lower() in f"{row['id']}\n{row['query']}".lower()]


@pytest.mark.parametrize("text", ["<B>", "script", "\\u003c", "委员会", "nowhere at all", "no space"])
def test_a_search_in_the_texts_finds_what_documents_answers_and_questions_say(index: lrf.RunIndex, text: str) -> None:
    found = [row["id"] for row in index.samples(text, limit=1000, texts=True)["rows"]]
    said = {
        s.id: "\0".join((s.id, s.sample.query, *(d.text for d in s.sample.documents), *(c.text for c in s.candidates)))
        for s in index.run
    }
    assert found == [id_ for id_, words in said.items() if text.lower() in words.lower()]


def test_a_search_crosses_blocks_and_no_two_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.stages.outcome.text_search.BLOCK", 40)
    texts = SearchedTexts(str(tmp_path))
    answers = ["first half", "second HALF", "half" * 50, "none"]
    for number, answer in enumerate(answers):
        texts.add(Sample(str(number), "?", (Document("0", "A document."),), (Candidate("a", answer),)))
    texts.flush()
    assert list(texts.positions("half")) == [0, 1, 2]
    assert list(texts.positions("document.first")) == []
    assert list(texts.positions("A DOCUMENT")) == [0, 1, 2, 3]


def test_a_run_that_is_scored_again_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrf.stages.outcome.index.AGAIN_S", 0.05)
    scored = [sample_of(number, f"text {number}") for number in range(3)]
    index = indexed(write_run(tmp_path / "run", scored))
    before, rewards = index.scored, [replace(r, reward=1.5) for r in scored[0][1]]
    write_run(tmp_path / "run", [(scored[0][0], rewards)])
    deadline = time.monotonic() + 30
    while index.scored == before and time.monotonic() < deadline:
        time.sleep(0.01)
    (row,) = index.samples()["rows"]
    assert (row["highest"], row["lowest"], index.problem) == (1.5, 1.5, None)
    assert [c.reward.reward for c in index.sample(row["id"])[0].candidates] == [1.5] * 3
    index.close()


def test_samples_are_sorted_as_asked(index: lrf.RunIndex) -> None:
    for order, key in (("by_unscored", lambda r: -r["unscored"]), ("by_margin", lambda r: r["lowest"] - r["highest"])):
        rows = index.samples(order=order, limit=1000)["rows"]
        assert [key(r) for r in rows] == sorted(map(key, rows))
    with pytest.raises(KeyError):
        index.samples(order="id; --")


def test_nothing_is_written_into_the_run_and_the_index_leaves_nothing(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    index = indexed(run)
    folder = Path(index._folder.name)
    assert folder.exists()
    index.close()
    assert not folder.exists()
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_run_under_way_shows_what_is_finished_so_far(project: Project, judge_server: JudgeServer) -> None:
    judge_server.fault("hang", times=None, when=lambda prompt: "contract 300" in prompt.lower())
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(lrf.run, project.with_evidence(), runs=project.runs)
        try:
            look_at_what_is_finished(project)
        finally:
            judge_server.let_go()
        assert running.result().exit_code == 0


def look_at_what_is_finished(project: Project) -> None:
    samples: list[lrf.ScoredSample] = []

    def two_are_finished() -> bool:
        with contextlib.suppress(lrf.RunError):  # nothing is scored so far
            samples[:] = lrf.load_run(project.run_dir)
        return len(samples) == 2

    until(two_are_finished)
    run = lrf.load_run(project.run_dir)
    assert run.under_way
    assert [s.id for s in samples] == ["sample-0", "sample-1"]
    assert all(c.text and c.reward.judgements for s in samples for c in s.candidates)
    index = run.index()
    until(lambda: bool(index.samples()["total"]))
    found, _ = index.sample("sample-1")
    assert found == samples[1]
    assert not index.complete
    assert index.exchanges("sample-1")
    prompt, reply, _ = index.exchange(index.exchanges("sample-1")[0]["number"]) or ("", "", None)
    assert "Contract 200" in prompt
    assert reply
    index.close()


@pytest.fixture
async def client(index: lrf.RunIndex, run: Path, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server, with its address and its token."""
    app = view_app(View(lrf.load_run(run), index, "the-token", Preferences(tmp_path / "labels.csv")))
    token = {"X-LRF-Token": "the-token"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8710", headers=token
    ) as client:
        yield client


async def test_the_server_answers_what_the_page_asks(client: httpx.AsyncClient, run: Path) -> None:
    page = await client.get("/", params={"token": "the-token"})
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "the-token" not in page.text  # it is packed, but no template could have put it there
    assert len((await client.get("/api/samples", params={"limit": 1000})).json()["rows"]) == len(HOSTILE)
    for sample in lrf.load_run(run):
        answer = (await client.get("/api/sample", params={"id": sample.id})).json()
        assert answer["sample"] == json.loads(json.dumps(lrf_report.html.brief(sample.facts())))
    assert sum((await client.get("/api/overview")).json()["histograms"]["reward"]["bins"]) == 2 * len(HOSTILE)
    for path, status in (
        ("/api/sample?id=none", 404), ("/api/exchange?number=1", 404), ("/api/exchange?number=x", 404),
        ("/api/samples?order=drop", 400), ("/api/samples?limit=x", 400), ("/../etc/passwd", 404),
    ):  # fmt: skip
        assert (await client.get(path)).status_code == status, path


async def test_another_host_another_origin_and_a_request_without_the_token_are_refused(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    for headers in (
        {"Host": "evil.example"}, {"Host": "evil.example:8710"}, {"Origin": "http://evil.example"}, {"Origin": "null"},
        {"Host": "127.0.0.1.evil.example"},
    ):  # fmt: skip
        assert (await client.get("/api/samples", headers=headers)).status_code == 403, headers
    given = {"ticket": "some", "choice": 0}
    for headers in ({"X-LRF-Token": ""}, {"X-LRF-Token": "another"}, {"Origin": "http://evil.example"}):
        assert (await client.post("/api/label", json=given, headers=headers)).status_code == 403
        for what in ("overview", "samples", "sample?id=x", "exchanges?sample=x", "exchange?number=1", "question"):
            assert (await client.get(f"/api/{what}", headers=headers)).status_code == 403
    for address in ("/", "/?token=", "/?token=another"):
        assert (await client.get(address)).status_code == 403
    for bad in ({}, {"ticket": "x"}, {"ticket": "some", "choice": 2}, [], "x" * 20_000):
        assert (await client.post("/api/label", json=bad)).status_code in (400, 413)
    assert not (tmp_path / "labels.csv").exists()


async def test_labels_are_blind_and_in_the_form_that_bench_reads(tmp_path: Path) -> None:
    samples = [sample_of(number, f"text {number}") for number in range(6)]
    answered = [
        (replace(s, candidates=tuple(replace(c, text=f"{s.id} answer {c.id}") for c in s.candidates)), r)
        for s, r in samples
    ]
    index = indexed(write_run(tmp_path / "run", answered))
    by_text = {c.text: (s.id, c.id) for s, _ in answered for c in s.candidates}
    chosen = []
    app = view_app(View(index.run, index, "t", Preferences(tmp_path / "labels.csv")))
    own, token = "http://localhost:1", {"X-LRF-Token": "t"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=own, headers=token) as client:
        for number in range(6):
            question = (await client.get("/api/question")).json()
            assert set(question) == {"kind", "choices", "ticket", "query", "documents", "answers", "done"}
            first, second = question["answers"]
            assert first != second
            choice = (0, 1, None)[number % 3]
            answer = {"ticket": question["ticket"], "choice": choice}
            kept = await client.post("/api/label", json=answer)
            assert kept.json() == {"done": number + 1}
            again = await client.post("/api/label", json=answer)
            assert again.status_code == 409
            if choice is not None:
                better, worse = (first, second) if choice == 0 else (second, first)
                chosen.append((by_text[better][0], by_text[better][1], by_text[worse][1]))
        assert (await client.get("/api/question")).json() is None
    labels = read_labels(tmp_path / "labels.csv")
    assert [(p.sample, p.preferred, p.other) for p in labels.preferences] == chosen
    left = {s.id for s, _ in answered} - {sample for sample, *_ in chosen}
    again = [Preferences(tmp_path / "labels.csv").question(index) for _ in range(20)]
    assert {by_text[q["answers"][0]][0] for q in again if q} == left  # what was passed over comes again
    index.close()


async def test_ratings_are_asked_for_a_sample_at_a_time_and_in_the_form_that_bench_reads(tmp_path: Path) -> None:
    answered = [
        (replace(s, candidates=tuple(replace(c, text=f"{s.id} answer {c.id}") for c in s.candidates)), r)
        for s, r in (sample_of(number, f"text {number}") for number in range(3))
    ]
    index = indexed(write_run(tmp_path / "run", answered))
    by_text = {c.text: (s.id, c.id) for s, _ in answered for c in s.candidates}
    labels = Ratings(tmp_path / "ratings.csv")
    given: dict[tuple[str, str], float] = {}
    order = []
    while question := labels.question(index):
        assert (question["kind"], question["choices"]) == ("ratings", [1, 2, 3, 4, 5])
        (text,) = question["answers"]
        with pytest.raises(ValueError, match="6"):
            labels.answer(question["ticket"], 6)
        labels.answer(question["ticket"], len(given) % 5 + 1)
        order.append(by_text[text][0])
        given[by_text[text]] = len(given) % 5 + 1
    assert order == [sample for sample in dict.fromkeys(order) for _ in range(3)]  # one sample after another
    read = read_labels(tmp_path / "ratings.csv").ratings
    assert {(r.sample, r.candidate): r.rating for r in read} == given
    assert len(given) == 9
    assert Ratings(tmp_path / "ratings.csv").question(index) is None
    index.close()


def test_a_file_of_labels_that_is_something_else_or_in_the_run_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "ratings.csv"
    other.write_text("sample_id,candidate_id,rating\n")
    for path, why in ((other, "expected the columns"), (run / "labels.csv", "it lies in the run")):
        assert invoke(["view", str(run), "--labels", str(path), "--port", "0"]) == 2
        assert why in capsys.readouterr().err


def test_the_command_serves_on_this_machine_until_it_is_interrupted(run: Path) -> None:
    heard = FirstLine()

    def ask() -> list[int]:
        try:
            address = heard.line.result(60)
            assert address.startswith("http://127.0.0.1:")
            return [httpx.get(url).status_code for url in (address, address.split("?")[0])]
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as thread, redirect_stdout(heard):
        asked = thread.submit(ask)
        assert invoke(["view", str(run), "--port", "0"]) == 0
    assert asked.result() == [200, 403]
