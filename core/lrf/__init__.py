"""lrf turns any LLM into a reward model for long-context answers, and that reward into a better policy.

The public names are those in ``__all__`` of the modules in ``_MODULES``; ``lrf.NAME`` imports the module when it is
first used, so that ``import lrf`` costs next to nothing. Plugins may import the modules in ``_FOR_PLUGINS`` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

_MODULES = (
    "lrf.errors",
    "lrf.plugin.spec",
    "lrf.types",
    "lrf.plugin.hookspecs",
    "lrf.prompting.templates",
    "lrf.prompting.requests",
    "lrf.prompting.expectations",
    "lrf.prompting.questions",
    "lrf.protocols",
    "lrf.settings",
    "lrf.api",
    "lrf.stages.outcome.joined",
    "lrf.stages.outcome.loading",
    "lrf.stages.outcome.index",
)
"""Where the public names are defined, the cheapest to import first."""

_FOR_PLUGINS = (
    "lrf.errors",
    "lrf.http",
    "lrf.local_models",
    "lrf.plugin.hookspecs",
    "lrf.plugin.spec",
    "lrf.plugin.suggest",
    "lrf.prices",
    "lrf.prompting",
    "lrf.protocols",
    "lrf.reasons",
    "lrf.rows",
    "lrf.settings",
    "lrf.text",
    "lrf.types",
)
"""Modules that a plugin may import, those inside them included. Every other module is internal."""

if TYPE_CHECKING:
    from lrf import api, errors, protocols, settings, types
    from lrf.api import *
    from lrf.errors import *
    from lrf.plugin import hookspecs, spec
    from lrf.plugin.hookspecs import *
    from lrf.plugin.spec import *
    from lrf.prompting import expectations, questions, requests, templates
    from lrf.prompting.expectations import *
    from lrf.prompting.questions import *
    from lrf.prompting.requests import *
    from lrf.prompting.templates import *
    from lrf.protocols import *
    from lrf.settings import *
    from lrf.stages.outcome import index, joined, loading
    from lrf.stages.outcome.index import *
    from lrf.stages.outcome.joined import *
    from lrf.stages.outcome.loading import *
    from lrf.types import *

    __version__: str

    __all__ = ["__version__"]
    __all__ += api.__all__
    __all__ += errors.__all__
    __all__ += expectations.__all__
    __all__ += hookspecs.__all__
    __all__ += index.__all__
    __all__ += joined.__all__
    __all__ += loading.__all__
    __all__ += protocols.__all__
    __all__ += questions.__all__
    __all__ += requests.__all__
    __all__ += settings.__all__
    __all__ += spec.__all__
    __all__ += templates.__all__
    __all__ += types.__all__
else:

    def __getattr__(name: str) -> Any:
        from importlib import import_module, metadata

        if name == "__version__":
            value = metadata.version("lrf")
        elif name == "__all__":
            value = sorted({"__version__"}.union(*(import_module(m).__all__ for m in _MODULES)))
        else:
            names = _MODULES if not name.startswith("_") else ()
            module = next((m for n in names if name in (m := import_module(n)).__all__), None)
            if module is None:
                raise AttributeError(f"module 'lrf' has no attribute {name!r}")
            value = getattr(module, name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__getattr__("__all__")})
