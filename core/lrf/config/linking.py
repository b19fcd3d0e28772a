"""Blocks of a pipeline are linked: which judge, embedder or retriever each component works with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lrf.config.model import RESERVED, ComponentBlock, DimensionKeys, needed_kinds
from lrf.config.problems import KeyPath, Problems
from lrf.config.yaml_document import YamlDocument
from lrf.plugin.spec import ComponentSpec
from lrf.plugin.suggest import did_you_mean
from lrf.settings import Settings

MAPS = {"judge": "judges", "embedder": "embedders", "retriever": "retrievers"}
"""The kinds of component that a pipeline names, and the key under which they are."""


@dataclass(slots=True)
class UnlinkedBlock:
    """A block whose references are not looked up yet. It has no ``settings`` where they contain a mistake.

    ``named``: the components that the block names, by kind.
    """

    kind: str
    name: str
    path: KeyPath
    type: str = ""
    spec: ComponentSpec | None = None
    settings: Settings | None = None
    reserved: Settings | None = None
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Linker:
    """Looks up what blocks refer to. ``names``: the pipeline's judges, embedders and retrievers, by kind."""

    document: YamlDocument
    problems: Problems
    names: Mapping[str, Sequence[str]]

    def link(self, block: UnlinkedBlock) -> ComponentBlock | None:
        """The block with the names of the components that it works with, or None where it contains a mistake."""
        if block.spec is None:
            return None
        panel = self._panel(block)
        if block.settings is None or (block.kind in RESERVED and block.reserved is None):
            for kind in block.named:  # what else it needs is decided by what contains a mistake
                self._name_of(kind, block)
            return None
        kinds = needed_kinds(block.spec, block.settings)
        for kind in set(block.named) - set(kinds):
            self.problems.add(f"with these settings no {kind} is asked; leave it out", (*block.path, kind))
        needs = {kind: panel[0] if panel and kind == "judge" else self._name_of(kind, block) for kind in kinds}
        known = {kind: name for kind, name in needs.items() if name is not None}
        reserved = block.reserved
        if isinstance(reserved, DimensionKeys):  # every default filled in, so that equal blocks are equal
            reserved = DimensionKeys(**{**reserved.model_dump(), "name": block.name})
        return ComponentBlock(block.kind, block.name, block.type, block.spec, block.settings, known, reserved)

    def _name_of(self, kind: str, block: UnlinkedBlock) -> str | None:
        """The name of the component of this kind that a block works with."""
        named, key, names = block.named.get(kind), MAPS[kind], self.names[kind]
        listed = f"{key}: {', '.join(names)}" if names else f"the pipeline has no {key}"
        at = (*block.path, kind)
        if named is not None:
            if named in names:
                return str(named)
            near = did_you_mean(named, names) if isinstance(named, str) else ""
            self.problems.add(f"no {kind} is named {self.document.hidden(at) or repr(named)}; {listed}{near}", at)
        elif "main" in names:
            return "main"
        elif len(names) == 1:
            return names[0]
        elif names:
            self.problems.add(f"there are several {key}; name one: `{kind}: {names[0]}`; {listed}", at)
        elif not self.problems.has((key,)):
            article = "an" if kind[0] in "aeiou" else "a"
            self.problems.add(f"{block.type} needs {article} {kind}; add one under `{key}:`", at)
        return None

    def _panel(self, block: UnlinkedBlock) -> Sequence[str]:
        """The judges of a dimension's panel, checked; empty for a block without a panel."""
        if not isinstance(block.reserved, DimensionKeys):
            return ()
        if (writer := block.reserved.writer) is not None and writer not in self.names["judge"]:
            near = did_you_mean(writer, self.names["judge"])
            problem = f"no judge is named {writer!r}; judges: {', '.join(self.names['judge']) or 'none'}{near}"
            self.problems.add(problem, (*block.path, "writer"))
        for key, problem in panel_problems(block.reserved, self.names["judge"], named_judge="judge" in block.named):
            self.problems.add(problem, (*block.path, key))
        return block.reserved.judges or ()


def panel_problems(keys: DimensionKeys, names: Sequence[str], *, named_judge: bool) -> Iterator[tuple[str, str]]:
    """The mistakes of a dimension's panel, each with its key.

    ``names``: the pipeline's judges. ``named_judge``: whether the block names a single judge, too.
    """
    judges = keys.judges or ()
    if judges and named_judge:
        yield "judges", "give either `judge` or `judges`"
    if len(set(judges)) < len(judges):
        yield "judges", "the same judge is given twice; `repeat` asks one judge several times"
    for name in judges:
        if name not in names:
            listed = f"judges: {', '.join(names)}" if names else "the pipeline has no judges"
            yield "judges", f"no judge is named {name!r}; {listed}{did_you_mean(name, names)}"
    if "panel" in keys.model_fields_set and not judges:
        yield "panel", "needs `judges`, the names of the judges that rate"
    if keys.panel == "cascade":
        yield from _cascade_problems(keys, judges)
        return
    if keys.panel_min is not None and keys.panel_min > len(judges):
        yield "panel_min", f"{keys.panel_min} judges can't answer of {len(judges)}" if judges else "needs `judges`"
    if "sure" in keys.model_fields_set:
        yield "sure", "needs `panel: cascade`"


def _cascade_problems(keys: DimensionKeys, judges: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(judges) == 1:
        yield "judges", "a cascade needs several judges"
    if keys.repeat > 1:
        yield "repeat", "a cascade asks each judge once"
    if keys.panel_min is not None:
        yield "panel_min", "in a cascade one judge decides"
