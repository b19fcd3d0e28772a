"""Life-cycle hooks, called beside the run: a slow or broken observer costs its own messages and nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pluggy

ROOM = 10_000
Event = tuple[str, Mapping[str, Any]]


class Observers:
    """Tells every plugin that observes, each through a queue and a thread of its own.

    ``report(plugin, reason)`` is called, from any thread, when one is detached.
    """

    HOOKS = ("lrf_run_started", "lrf_call_finished", "lrf_sample_scored", "lrf_component_failed", "lrf_run_finished")

    def __init__(self, manager: pluggy.PluginManager | None, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._queues: dict[str, queue.Queue[Event | None]] = {}
        self._threads: list[threading.Thread] = []
        for name, plugin in manager.list_name_plugin() if manager else ():
            if manager is None or plugin is None:
                continue
            callers = {hook: manager.subset_hook_caller(hook, self._all_but(manager, plugin)) for hook in self.HOOKS}
            if any(hasattr(plugin, hook) for hook in self.HOOKS):
                events: queue.Queue[Event | None] = queue.Queue(ROOM)
                self._queues[name] = events
                thread = threading.Thread(
                    target=self._serve, args=(name, events, callers), name=f"lrf-{name}", daemon=True
                )
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _all_but(manager: pluggy.PluginManager, plugin: object) -> list[object]:
        return [p for p in manager.get_plugins() if p is not plugin]

    def tell(self, hook: str, /, **arguments: Any) -> None:
        """Queue a message for every observer; never blocks."""
        for name, events in list(self._queues.items()):
            try:
                events.put_nowait((hook, arguments))
            except queue.Full:
                self._detach(name, f"it fell {ROOM} messages behind")

    def _detach(self, name: str, reason: str) -> None:
        if self._queues.pop(name, None) is not None:
            self._report(name, reason)

    def _serve(self, name: str, events: queue.Queue[Event | None], callers: Mapping[str, Any]) -> None:
        while (event := events.get()) is not None:
            hook, arguments = event
            try:
                callers[hook](**arguments)
            except BaseException as e:
                self._detach(name, f"{hook} raised {type(e).__name__}: {e}")
                return

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the observers finish what is queued, for at most so many seconds each."""
        for name, events in list(self._queues.items()):
            try:
                events.put(None, timeout=timeout_s)
            except queue.Full:
                self._detach(name, "it did not finish in time")
        for thread in self._threads:
            thread.join(timeout_s)
        self._queues.clear()
