"""Life-cycle hooks, called in threads: a slow or broken observer loses its own messages and nothing else."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from lrf.errors import ConfigError

if TYPE_CHECKING:
    import pluggy

    from lrf.engine.server import FinishedCall
    from lrf.protocols import Observer

ROOM = 10_000
_PREFIX = "observers."
Event = tuple[str, Mapping[str, Any]]


class Observers:
    """Calls the hooks of all that observes runs, each in its own thread, from its own queue.

    Parameters
    ----------
    manager: the plugins; those with a hook of a run's life observe every run. None: none of them.
    report: called with name and reason, from any thread, when an observer is detached.
    components: the pipeline's observers, by name.

    Raises :class:`lrf.errors.ConfigError` for a component whose hooks aren't lrf's.
    """

    HOOKS = ("lrf_run_started", "lrf_call_finished", "lrf_sample_scored", "lrf_component_failed", "lrf_run_finished")

    def __init__(
        self,
        manager: pluggy.PluginManager | None,
        report: Callable[[str, str], None],
        components: Mapping[str, Observer] = MappingProxyType({}),
    ) -> None:
        self._report = report
        self._queues: dict[str, queue.Queue[Event | None]] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._hooks: dict[str, Mapping[str, Any]] = {}
        self._last = {f"{_PREFIX}{name}": component.close for name, component in components.items()}
        for each in (manager, _manager_of(components)):
            if each is not None:
                self._begin(each)

    def _begin(self, manager: pluggy.PluginManager) -> None:
        """Start a thread for each plugin that has one of the hooks."""
        for name, plugin in manager.list_name_plugin():
            if plugin is None:
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

    def hear(self, hook: str) -> bool:
        """Whether any observer has this hook."""
        return any(hook in hooks for hooks in self._hooks.values())

    def tell_call(self, call: FinishedCall) -> None:
        """Tell of a call that has ended."""
        if self._queues:
            self.tell("lrf_call_finished", **call._asdict())

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
        try:
            self._last.get(name, _nothing)()
        except BaseException as error:
            self._detach(name, f"close raised {type(error).__name__}: {error}")

    def close(self, timeout_s: float = 15.0) -> None:
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


def _nothing() -> None:
    """Closes a plugin that has nothing to close."""


def _manager_of(components: Mapping[str, Observer]) -> pluggy.PluginManager | None:
    """A manager of the pipeline's own observers, which are there for one run."""
    if not components:
        return None
    import pluggy

    from lrf.plugin import hookspecs

    manager = pluggy.PluginManager("lrf")
    manager.add_hookspecs(hookspecs)
    for name, component in components.items():
        for hook in Observers.HOOKS:
            if hasattr(component, hook) and not hasattr(getattr(component, hook), "lrf_impl"):
                raise ConfigError(f"observers.{name}: {hook} is not marked as a hook; put @lrf.hookimpl above it")
    for name, component in components.items():
        manager.register(component, f"{_PREFIX}{name}")
    try:
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise ConfigError(f"an observer has a hook that lrf doesn't have: {error}") from error
    return manager
