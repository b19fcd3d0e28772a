"""Observers see a run's life; a slow or broken one costs its own messages and nothing else."""

from __future__ import annotations

import threading
from typing import Any

import pluggy
import pytest

from lrf import hookimpl
from lrf.engine import observers as observers_module
from lrf.engine.observers import Observers


def manager_of(**plugins: object) -> pluggy.PluginManager:
    from lrf.plugin import hookspecs

    manager = pluggy.PluginManager("lrf")
    manager.add_hookspecs(hookspecs)
    for name, plugin in plugins.items():
        manager.register(plugin, name)
    return manager


class Reports(list[tuple[str, str]]):
    def __call__(self, plugin: str, reason: str) -> None:
        self.append((plugin, reason))


def test_an_observer_is_called_in_order_with_the_arguments_it_asks_for() -> None:
    told: list[str] = []

    class Plugin:
        @hookimpl
        def lrf_run_started(self, run_dir: str) -> None:
            told.append(f"started {run_dir}")

        @hookimpl
        def lrf_run_finished(self, summary: dict[str, Any]) -> None:
            told.append(f"finished {summary['status']}")

    observers = Observers(manager_of(plugin=Plugin()), Reports())
    observers.tell("lrf_run_started", run_dir="runs/x", pipeline={})
    observers.tell("lrf_call_finished", judge="main", kind="rating", sample_id="s", attempt=0, seconds=0.1, error=None)
    observers.tell("lrf_run_finished", run_dir="runs/x", summary={"status": "finished"})
    observers.close()
    assert told == ["started runs/x", "finished finished"]


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit(1), KeyboardInterrupt()])
def test_one_that_raises_is_detached_and_reported_and_the_others_go_on(error: BaseException) -> None:
    told = []

    class Broken:
        @hookimpl
        def lrf_run_started(self) -> None:
            raise error

        @hookimpl
        def lrf_run_finished(self) -> None:
            told.append("broken")

    class Good:
        @hookimpl
        def lrf_run_started(self) -> None:
            told.append("good")

        @hookimpl
        def lrf_run_finished(self) -> None:
            told.append("good")

    reports = Reports()
    observers = Observers(manager_of(broken=Broken(), good=Good()), reports)
    observers.tell("lrf_run_started", run_dir="", pipeline={})
    observers._threads["broken"].join(10)
    observers.tell("lrf_run_finished", run_dir="", summary={})
    observers.close()
    assert told == ["good", "good"]
    assert [plugin for plugin, _ in reports] == ["broken"]
    assert f"lrf_run_started raised {type(error).__name__}" in reports[0][1]


def test_one_that_falls_behind_is_detached_and_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers_module, "ROOM", 5)
    release = threading.Event()
    told = []

    class Slow:
        @hookimpl
        def lrf_sample_scored(self, sample_id: str) -> None:
            release.wait()

    class Quick:
        @hookimpl
        def lrf_run_finished(self) -> None:
            told.append("quick")

    reports = Reports()
    observers = Observers(manager_of(slow=Slow(), quick=Quick()), reports)
    for i in range(20):
        observers.tell("lrf_sample_scored", sample_id=str(i), rewards=())
    observers.tell("lrf_run_finished", run_dir="", summary={})
    observers.close()
    assert told == ["quick"]
    assert [plugin for plugin, _ in reports] == ["slow"]
    assert "messages behind" in reports[0][1]
    release.set()
    observers._threads["slow"].join(10)
    assert not observers._threads["slow"].is_alive()


def test_closing_waits_only_so_long_for_one_that_hangs_and_says_so() -> None:
    release = threading.Event()

    class Hanging:
        @hookimpl
        def lrf_run_started(self) -> None:
            release.wait()

    reports = Reports()
    observers = Observers(manager_of(hanging=Hanging()), reports)
    observers.tell("lrf_run_started", run_dir="", pipeline={})
    observers.close(timeout_s=0.05)
    release.set()
    assert reports == [("hanging", "it did not finish in time")]


def test_a_plugin_that_only_registers_components_gets_no_thread() -> None:
    class Registers:
        @hookimpl
        def lrf_register_judges(self) -> tuple[()]:
            return ()

    observers = Observers(manager_of(registers=Registers()), Reports())
    assert not observers._threads
    observers.close()
