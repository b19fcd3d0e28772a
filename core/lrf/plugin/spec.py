"""The registrations of components and commands, which name them without importing them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "API_VERSION",
    "CommandSpec",
    "ComponentSpec",
]

API_VERSION = 1

KINDS = (
    "source",
    "sampler",
    "judge",
    "embedder",
    "retriever",
    "dimension",
    "aggregator",
    "pairing",
    "trainer",
    "launcher",
    "observer",
    "executor",
    "benchmark",
)
"""The kinds of component, in the order in which a pipeline uses them; `lrf bench` uses benchmarks."""


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A registration: strings only, so that listing plugins imports none of them.

    Parameters
    ----------
    name: the ``type:`` that names the component in a pipeline.
    target: ``"package.module:Class"``. The class is called with the settings (see ``lrf.protocols``).
    settings: ``"package.module:Model"``, a subclass of :class:`lrf.settings.Settings`, in a module that
        imports nothing heavy.
    summary: one line for ``lrf plugins``.
    extra: the extra of the distribution that must be installed for the target to import, if any.
    distribution: the distribution that has the extra.
    needs: kinds of components that it uses through the engine: "judge", "embedder", "retriever". Its settings may do
        without one of them (:attr:`lrf.settings.Settings.without`).
    own_process: for a sampler or a judge that loads a model: its stage runs in a process of its own, so that the memory
        is free afterwards.
    rewards: for a trainer: it asks for rewards of answers while it trains (:class:`lrf.protocols.Rewards`), so the
        pipeline's dimensions are its, and there are no stages *sample*, *score* and *pairs*.
    api: the version of lrf's plugin interface that it was written for.
    """

    name: str
    target: str
    settings: str
    summary: str
    extra: str | None = None
    distribution: str = "lrf"
    needs: tuple[str, ...] = ()
    own_process: bool = False
    rewards: bool = False
    api: int = API_VERSION


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """The registration of a command, ``lrf NAME``.

    Parameters
    ----------
    name: small letters, digits and "-"; none of lrf's own commands.
    target: ``"package.module:function"``, a ``click.Command``. It returns its exit code, or raises an
        :class:`lrf.LrfError`.
    summary: one line for ``lrf --help``.
    extra: the extra of the distribution that must be installed for the target to import, if any.
    distribution: the distribution that has the extra.
    """

    name: str
    target: str
    summary: str
    extra: str | None = None
    distribution: str = "lrf"
