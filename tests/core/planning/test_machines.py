"""How long a plan takes with so many workers."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from judge_server import JudgeServer
from lrf.cli.main import cli
from lrf.planning.machines import ROW_BYTES, forecast
from lrf.planning.plan import Estimate, Plan
from project import Project


def planned(calls: int, kept: int = 0) -> Plan:
    return Plan(dimensions={"d": Estimate(calls=calls, kept_calls=kept, left_calls=calls - kept)})


def test_twice_the_workers_take_half_the_time_and_what_is_paid_takes_none() -> None:
    one, two = (forecast(planned(36_000), workers, 10, 2.0) for workers in (1, 2))
    assert (one.hours, two.hours) == (2.0, 1.0)
    assert forecast(planned(36_000, kept=18_000), 1, 10, 2.0).hours == 1.0
    assert one.journal_bytes == 36_000 * ROW_BYTES
    assert forecast(planned(5, kept=5), 1, 1, 1.0).journal_bytes == 0


def test_more_workers_than_one_run_can_keep_busy_want_several_runs() -> None:
    many = forecast(planned(10**9), 100, 64, 4.0)
    assert many.runs == 3
    assert "3 runs must share the data (`part: 1/3` to `part: 3/3`)" in many.sentences()[1]
    assert len(forecast(planned(100), 1, 64, 4.0).sentences()) == 1


@pytest.mark.parametrize("slots", [None, 4])
def test_lrf_plan_says_it_for_a_judge_as_it_is_set_or_as_the_command_says(
    project: Project, judge_server: JudgeServer, slots: int | None
) -> None:
    project.write_data(2)
    command = ["plan", str(project.write(project.pipeline())), "--workers", "3", "--seconds", "2", "--json"]
    result = CliRunner().invoke(cli, [*command, *(["--slots", str(slots)] if slots else [])])
    workers = json.loads(result.stdout)["workers"]
    assert workers["calls_per_s"] == 3 * (slots or 8) / 2
    shown = CliRunner().invoke(cli, command[:-1]).stdout
    assert (
        "3 workers of 8 calls at once, 2 s a call: 12.0 calls a second, a minute in all; journals of about 1 MB"
        in shown
    )
