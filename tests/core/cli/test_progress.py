"""Progress: what a line says, when lines come in a pipe, and what a terminal shows."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr

import pytest

from lrf.cli.progress import Display, Lines, progress
from lrf.cli.progress_line import TimeLeft, duration, line_of
from lrf.stages.progress import BudgetUse, Progress, Stall, Waiting
from project import Project


def score(samples: int = 12, calls: int = 156, **more: object) -> Progress:
    return Progress(stage="score", samples=samples, of_samples=40, calls=calls, tokens=9000, **more)  # type: ignore[arg-type]


def test_a_message_is_the_same_after_its_way_through_a_childs_channel() -> None:
    whole = score(
        budget=(BudgetUse("USD", 0.4, 2.0),), waits=(Waiting("judges.main", "429", 12.0),), stall=Stall(75, "main")
    )
    for message in (whole, Progress(stage="train", figures={"loss": 0.5})):
        assert Progress.from_json({**message.as_json(), "of a later version": 1}) == message
    assert Progress(stage="score", samples=0).as_json() == {"stage": "score", "samples": 0}


def test_the_line_says_what_is_done_of_what_is_planned_and_what_the_budget_has_left() -> None:
    p = score(unscored=2, retried=3, in_flight=8, budget=(BudgetUse("USD", 0.4171234, 2.0),))
    assert line_of(p, planned_calls=218, seconds_left=250.0) == (
        "score: 12 of 40 samples, 2 unscored, 156 of about 218 calls (3 tried again, 8 in flight), 9,000 tokens, "
        "0.417123 of 2 USD of the budget, about 4 min left"
    )


def test_more_calls_than_planned_are_not_said_to_be_part_of_the_plan() -> None:
    assert "156 calls, " in line_of(score(), planned_calls=150)


@pytest.mark.parametrize(
    ("more", "end"),
    [
        (
            {"waits": (Waiting("judges.main", "429 too many requests", 12.0),), "stall": Stall(75)},
            "; judges.main: 429 too many requests, next try in 12 s (1 waiting)",
        ),
        (
            {"stall": Stall(75, "main", "s\x1b[31m", "charm", "rating")},
            "; judge main has not replied for 75 s: charm (rating) of sample s\\x1b[31m",
        ),
        (
            {"stall": Stall(600, "main", "s", "charm", "rating", computing=True)},
            "; judge main has been computing for 10 min: charm (rating) of sample s",
        ),
        ({"stall": Stall(75)}, "; no reply for 75 s"),
    ],
)
def test_the_line_ends_with_why_nothing_moves(more: dict[str, object], end: str) -> None:
    assert line_of(score(**more)).endswith(f"9,000 tokens{end}")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(89.6, "90 s"), (100, "2 min"), (3599, "1 h 0 min"), (7900, "2 h 12 min"), (300000, "3 d 11 h")],
)
def test_a_duration_is_given_in_units_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_left_follows_from_the_calls_of_the_last_minutes_and_the_plan() -> None:
    now = 0.0
    left = TimeLeft(planned_calls=1000, clock=lambda: now)
    for now, calls in ((0.0, 0), (100.0, 10), (200.0, 20), (300.0, 120)):
        seconds = left.seconds(score(0, calls))
    assert seconds == pytest.approx(880 / 1.0)  # a call a second since 200 s, not since the beginning


def test_without_a_plan_the_time_left_follows_from_the_samples() -> None:
    now = 0.0
    left = TimeLeft(clock=lambda: now)
    left.seconds(score(0, 0))
    now = 30.0
    assert left.seconds(score(10, 50)) == pytest.approx(90.0)
    assert left.seconds(score(10, 50, waits=(Waiting("judges.main", "503", 400.0),))) == 400.0


def test_no_time_left_is_given_while_too_little_was_done_to_say() -> None:
    now = 0.0
    left = TimeLeft(clock=lambda: now)
    left.seconds(score(0, 0))
    now = 19.0
    assert left.seconds(score(10, 50)) is None
    now = 50.0
    assert left.seconds(score(4, 50)) is None


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_comes_when_ten_seconds_and_a_twentieth_have_gone_by(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    display = Display(Lines(clock), clock=clock)
    said = []
    for clock.now, samples in ((0.0, 0), (9.0, 10), (10.0, 11), (15.0, 12), (25.0, 12), (26.0, 20), (700.0, 20)):
        display(score(samples).as_json())
        said += [(clock.now, samples)] * len(lines_of(capsys))
    assert said == [(0.0, 0), (10.0, 11), (26.0, 20), (700.0, 20)]


def test_a_server_that_makes_calls_wait_is_said_soon(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    display = Display(Lines(clock), clock=clock)
    display(score(1).as_json())
    clock.now = 11.0
    for _ in range(3):
        display(score(1, waits=(Waiting("judges.main", "429", 12.0),)).as_json())
    assert [line.endswith("next try in 12 s (1 waiting)") for line in lines_of(capsys)] == [False, True]


def test_each_stage_ends_with_its_last_line_before_the_next_one_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as display:
        display(Progress(stage="data", samples=1).as_json())
        display(Progress(stage="data", samples=3).as_json())
        display(Progress(stage="sample", event="skipped").as_json())
        display(Progress(stage="score", event="begins").as_json())
        for samples in (1, 39, 40):
            display(score(samples).as_json())
        display(Progress(stage="run", event="stopping", note="SIGINT: finishing").as_json())
        display(Progress(stage="train", figures={"note": "\x1b[31mred"}).as_json())
    assert lines_of(capsys) == [
        "data: 1 samples",
        "data: 3 samples",
        "sample: finished by an earlier run, skipped",
        "score: begins",
        "score: 1 of 40 samples, 156 calls, 9,000 tokens",
        "SIGINT: finishing",
        "score: 40 of 40 samples, 156 calls, 9,000 tokens",
        "train: note \\x1b[31mred",
    ]


def test_progress_that_nobody_reads_any_more_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    with progress() as display:
        display(Progress(stage="pairs", event="begins").as_json())
        display(Progress(stage="pairs", samples=3).as_json())


def test_progress_and_results_are_in_order_when_both_go_to_one_pipe(project: Project) -> None:
    command = [sys.executable, "-m", "lrf", "run", str(project.write(project.pipeline())), "--runs", str(project.runs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line]
    starts = ["score: begins", "score: 3 of 3 samples", "pairs: begins", "pairs: 3 samples", "RUN", "samples", "files"]
    places = [max(i for i, line in enumerate(lines) if line.startswith(start)) for start in starts]
    assert places == sorted(places)
    assert places[-1] == len(lines) - 1


def test_a_terminal_shows_a_moving_region_and_keeps_the_last_line_of_each_stage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    with ThreadPoolExecutor(1) as reader, redirect_stderr(os.fdopen(theirs, "w")) as terminal:
        read = reader.submit(_all_of, ours)
        with progress() as display:
            display(Progress(stage="data", event="begins").as_json())
            for samples in range(41):
                display(Progress(stage="score", samples=samples, of_samples=40, calls=samples).as_json())
            display(Progress(stage="pairs", samples=40, pairs=39).as_json())
        terminal.close()
        shown = read.result()
    os.close(ours)
    assert b"\x1b[2K" in shown  # the region is erased and drawn again
    assert b"score: 40 of 40 samples, 40 calls, 0 tokens\r\n" in shown
    assert shown.index(b"score: 40 of 40") < shown.index(b"pairs: 40 samples, 39 pairs")


def _all_of(terminal: int) -> bytes:
    shown = b""
    while part := _read(terminal):
        shown += part
    return shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other side is closed
        return b""
