"""Life-cycle hooks, called in threads: a slow or broken observer loses its own messages and nothing else."""

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
    """Calls the hooks of every plugin that observes runs, each plugin in its own thread, from its own queue.

    ``report(plugin, reason)`` is called, from any thread, when a plugin is detached.
    """

    HOOKS = ("lrf_run_started", "lrf_call_finished", "lrf_sample_scored", "lrf_component_failed", "lrf_run_finished")

    def __init__(self, manager: pluggy.PluginManager | None, report: Callable[[str, str], None]) -> None:
        self._report = report
        self._queues: dict[str, queue.Queue[Event | None]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._hooks: dict[str, Mapping[str, Any]] = {}
        for name, plugin in manager.list_name_plugin() if manager else ():
            if manager is None or plugin is None:
                continue
            others = [p for p in manager.get_plugins() if p is not plugin]
            callers = {hook: manager.subset_hook_caller(hook, others) for hook in self.HOOKS if hasattr(plugin, hook)}
            if callers:
                self._hooks[name] = callers
                self._queues[name] = queue.Queue(ROOM)
                self._threads[name] = threading.Thread(
                    target=self._serve, args=(name, self._queues[name], callers), name=f"lrf-{name}", daemon=True
                )
                self._threads[name].start()

    def tell(self, hook: str, /, **arguments: Any) -> None:
        """Queue a message for every observer that has this hook; never blocks."""
        for name, events in list(self._queues.items()):
            if hook not in self._hooks[name]:
                continue
            try:
                events.put_nowait((hook, arguments))
            except queue.Full:
                self._detach(name, f"it fell {ROOM} messages behind")

    def _detach(self, name: str, reason: str) -> None:
        if self._queues.pop(name, None) is not None:
            self._report(name, reason)

    def _serve(self, name: str, events: queue.Queue[Event | None], callers: Mapping[str, Any]) -> None:
        while (event := events.get()) is not None:
            if name not in self._queues:
                return
            hook, arguments = event
            try:
                callers[hook](**arguments)
            except BaseException as error:
                self._detach(name, f"{hook} raised {type(error).__name__}: {error}")
                return

    def close(self, timeout_s: float = 5.0) -> None:
        """Wait until the observers have finished what is queued, up to ``timeout_s`` seconds for each."""
        for name, events in list(self._queues.items()):
            try:
                events.put(None, timeout=timeout_s)
            except queue.Full:
                self._detach(name, "it did not finish in time")
        for name in list(self._queues):
            self._threads[name].join(timeout_s)
            if self._threads[name].is_alive():
                self._detach(name, "it did not finish in time")
        self._queues.clear()
