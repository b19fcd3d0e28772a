"""From a pipeline file to a :class:`Pipeline`, with every mistake in it told at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lrf.config.model import (
    RESERVED,
    Block,
    DataKeys,
    DimensionKeys,
    GlobalSettings,
    Pipeline,
    needed_kinds,
    reserved_keys,
    safe_name,
)
from lrf.config.prices import SAMPLING, priced, read_prices
from lrf.config.problems import KeyPath, Problems
from lrf.config.pydantic_errors import report
from lrf.config.resolve import resolve
from lrf.config.yaml_document import YamlDocument, read_document, read_text
from lrf.errors import LrfError, PluginError
from lrf.http.settings import secret_variables
from lrf.plugin.catalog import Catalog, load_settings
from lrf.plugin.spec import ComponentSpec
from lrf.plugin.suggest import did_you_mean
from lrf.settings import Settings
from lrf.text.redaction import hide, redact, reveal

S = TypeVar("S", bound=Settings)

MAPS = {"judge": "judges", "embedder": "embedders", "retriever": "retrievers"}
"""The kinds of component that a pipeline names, and the key that has them."""

KEYS = (
    "name",
    "seed",
    "data",
    "sample",
    "judges",
    "embedders",
    "retrievers",
    "dimensions",
    "aggregator",
    "pairs",
    "policy",
    "train",
    "launcher",
    "python",
    "max_unscored",
    "calibration",
    "budget",
    "prices",
    "cache",
)
"""The keys of a pipeline, in the order in which they are usually written."""


def load_pipeline(path: str | Path, catalog: Catalog, environ: Mapping[str, str] = os.environ) -> Pipeline:
    """Read a pipeline file.

    Raises :class:`lrf.errors.ConfigError` with every mistake in it: file, line, path, what is allowed. Nothing is run
    or built, and of the components only the settings are imported.
    """
    path = Path(path)
    return _read(read_text(path), catalog, path.absolute().parent, path, environ)


def parse_pipeline(
    source: Mapping[str, Any] | str,
    catalog: Catalog,
    *,
    folder: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
) -> Pipeline:
    """Read a pipeline from YAML text, or from a mapping that is laid out as a file would be.

    ``folder`` is where relative paths start: the current directory, if left out. Raises as :func:`load_pipeline`.
    """
    return _read(source, catalog, Path(folder or ".").absolute(), None, environ)


def _read(
    source: Mapping[str, Any] | str, catalog: Catalog, folder: Path, file: Path | None, environ: Mapping[str, str]
) -> Pipeline:
    problems = Problems(str(file) if file else None)
    document = read_document(source, problems, environ)
    return PipelineParser(document, problems, catalog, folder, file, environ).pipeline()


@dataclass(slots=True)
class _Draft:
    """A block whose references are not looked up yet. Without ``settings`` it is a mistaken one."""

    kind: str
    name: str
    path: KeyPath
    type: str = ""
    spec: ComponentSpec | None = None
    settings: Settings | None = None
    reserved: Settings | None = None
    named: Mapping[str, Any] = field(default_factory=dict)


class PipelineParser:
    """One pass over a document, gathering what is wrong with it."""

    def __init__(
        self,
        document: YamlDocument,
        problems: Problems,
        catalog: Catalog,
        folder: Path,
        file: Path | None,
        environ: Mapping[str, str],
    ) -> None:
        self.document = document
        self.problems = problems
        self.catalog = catalog
        self.file = file
        self.folder = folder
        self.environ = environ
        # what a component's settings can be checked against, as the `context` of its validators
        self.context: dict[str, Any] = {"folder": folder}

    def pipeline(self) -> Pipeline:
        top = self._top()
        head = self._validate(GlobalSettings, {k: v for k, v in top.items() if k in GlobalSettings.model_fields}, ())
        components = {kind: self._map(kind, top.get(key)) for kind, key in MAPS.items()}
        dimensions = self._dimensions(top.get("dimensions"))
        self.context["dimensions"] = tuple(d.name for d in dimensions)
        policy = top.get("policy")
        given = policy.get("model") if isinstance(policy, dict) else None
        self.context["policy_model"] = head.policy.model if head else given
        data = self._single("source", "data", top.get("data"))
        sample = self._single("sampler", "sample", top.get("sample"))
        aggregator = self._single("aggregator", "aggregator", top.get("aggregator", "mean" if dimensions else None))
        pairs = self._single("pairing", "pairs", top.get("pairs"))
        train = self._single("trainer", "train", top.get("train"))
        launcher = self._single("launcher", "launcher", top.get("launcher"))

        names = {kind: tuple(drafts) for kind, drafts in components.items()}
        blocks: dict[str, Any] = {
            MAPS[kind]: {name: self._block(draft, names) for name, draft in drafts.items()}
            for kind, drafts in components.items()
        }
        blocks["dimensions"] = tuple(self._block(draft, names) for draft in dimensions)
        singles = {"data": data, "sample": sample, "aggregator": aggregator, "pairs": pairs, "train": train}
        for key, draft in {**singles, "launcher": launcher}.items():
            blocks[key] = self._block(draft, names) if draft else None
        if head is not None:
            self._check_prices(head, blocks)

        self.problems.raise_any()
        assert head is not None, "the head was refused without a reason"
        for shown in (head.name, head.policy.model or "", *(d.name for d in dimensions)):
            reveal(shown)
        on_bad_row = data.reserved.on_bad_row if data and isinstance(data.reserved, DataKeys) else "stop"
        return Pipeline(
            name=head.name,
            seed=head.seed,
            on_bad_row=on_bad_row,
            policy=head.policy,
            python={stage: path for stage, path in head.python if path is not None},
            max_unscored=head.max_unscored,
            calibration=head.calibration,
            cache=head.cache,
            budget=head.budget,
            prices=head.prices,
            folder=self.folder,
            file=self.file,
            resolved=resolve(KEYS, head, blocks, on_bad_row, self.document),
            **blocks,
        )

    def _check_prices(self, head: GlobalSettings, blocks: Mapping[str, Any]) -> None:
        """The price file can be read, and a budget of money has a price for every judge that is asked."""
        try:
            prices = read_prices(head.prices)
        except LrfError as error:
            self.problems.add(str(error), ("prices",))
            return
        judges = {name: block.settings for name, block in blocks["judges"].items() if block}
        if blocks["sample"]:
            judges[SAMPLING] = blocks["sample"].settings
        try:
            if head.budget.money is not None:
                priced(judges, prices, needed=True)
        except LrfError as error:
            self.problems.add(redact(str(error)), ("budget", "money"))

    def _top(self) -> dict[str, Any]:
        values = self.document.values
        if not isinstance(values, dict):
            self.problems.add(f"expected a pipeline: a block of keys, beginning with name; keys: {', '.join(KEYS)}")
            self.problems.raise_any()
        for key in values:
            if key not in KEYS:
                self.problems.add(f"unknown key; allowed: {', '.join(KEYS)}{did_you_mean(key, KEYS)}", (key,))
        return {k: v for k, v in values.items() if v is not None}

    def _validate(
        self, model: type[S], values: Mapping[str, Any], path: KeyPath, also_allowed: Sequence[str] = ()
    ) -> S | None:
        try:
            return model.model_validate(values, context=self.context)
        except ValidationError as error:
            report(error, model, path, self.document, self.problems, also_allowed)
        except LrfError as error:
            self.problems.add(redact(str(error)), path)
        except Exception as error:  # a plugin's own validator: its fault ends as a message, too
            self.problems.add(redact(f"checking the settings failed: {type(error).__name__}: {error}"), path)
        return None

    # --- blocks ------------------------------------------------------------------------------------------------

    def _map(self, kind: str, values: Any) -> dict[str, _Draft]:
        key = MAPS[kind]
        if values is None:
            return {}
        if not isinstance(values, dict):
            self.problems.add(f"expected a block that names each {kind}, such as `main:`; got {_kind(values)}", (key,))
            return {}
        for name in values:
            try:
                safe_name(name)
            except ValueError as error:
                self.problems.add(str(error), (key, name))
        return {name: self.draft(kind, name, value, (key, name)) for name, value in values.items()}

    def _dimensions(self, values: Any) -> list[_Draft]:
        if values is None:
            return []
        if not isinstance(values, list):
            self.problems.add(f"expected a list of dimensions; got {_kind(values)}", ("dimensions",))
            return []
        drafts: dict[str, _Draft] = {}
        for i, value in enumerate(values):
            draft = self.draft("dimension", "", value, ("dimensions", i))
            own = draft.reserved.name if isinstance(draft.reserved, DimensionKeys) else None
            draft.name = own or draft.type
            if draft.name and draft.name in drafts:
                self.problems.add(
                    f"another dimension is named {draft.name!r} too; give one of them a `name:`", draft.path
                )
            drafts[draft.name or f"?{i}"] = draft
        return list(drafts.values())

    def _single(self, kind: str, key: str, value: Any) -> _Draft | None:
        if value is None:
            return None
        draft = self.draft(kind, "", value, (key,))
        draft.name = draft.type
        return draft

    def draft(self, kind: str, name: str, value: Any, path: KeyPath) -> _Draft:
        """The block at ``path``; what is wrong with it is told, and leaves the draft without settings."""
        draft = _Draft(kind, name, path)
        if isinstance(value, str):
            values, type_path = {"type": value}, path
        elif isinstance(value, dict):
            values, type_path = dict(value), (*path, "type")
        else:
            self.problems.add(f"expected a type, or a block with a `type:`; got {_kind(value)}", path)
            return draft
        type_ = values.pop("type", None)
        if not isinstance(type_, str):
            available = ", ".join(spec.name for spec in self.catalog.specs(kind))
            self.problems.add(f"missing; give the {kind}'s type, one of: {available}", type_path)
            return draft
        draft.type = type_
        try:
            spec = self.catalog.find(kind, type_)
            model = load_settings(spec)
        except PluginError as error:
            self.problems.add(redact(str(error)), type_path)
            return draft
        draft.spec = spec
        draft.named = {key: values.pop(key) for key in spec.needs if key in values}
        if kind in RESERVED:
            own = {key: values.pop(key) for key in reserved_keys(kind, spec) if key in values}
            draft.reserved = self._validate(RESERVED[kind], own, path)
        reserved = [*reserved_keys(kind, spec), *spec.needs]
        draft.settings = self._validate(model, values, path, ["type", *reserved])
        if draft.settings is not None:
            self._hide_secrets(draft.settings)
        return draft

    def _hide_secrets(self, settings: Settings) -> None:
        """Register the keys that the settings name; what a model or a server is called is shown."""
        for variable in secret_variables(settings):
            hide(self.environ.get(variable, ""), variable)
        if (reference := settings.model_reference) is not None:
            reveal(reference.name)
            reveal(reference.host or "")

    # --- who works with whom -----------------------------------------------------------------------------------

    def _block(self, draft: _Draft, names: Mapping[str, Sequence[str]]) -> Block | None:
        """The block of a draft, or None where a mistake in it is noted."""
        if draft.spec is None:
            return None
        panel = self._panel(draft, names["judge"])
        kinds = needed_kinds(draft.spec, draft.settings) if draft.settings else draft.spec.needs
        for kind in set(draft.named) - set(kinds):
            self.problems.add(f"with these settings no {kind} is asked; leave it out", (*draft.path, kind))
        needs = {kind: panel[0] if panel and kind == "judge" else self._who(kind, draft, names[kind]) for kind in kinds}
        if draft.settings is None:
            return None
        known = {kind: name for kind, name in needs.items() if name is not None}
        reserved = draft.reserved
        if isinstance(reserved, DimensionKeys):  # every default filled in, so that equal blocks are equal
            reserved = DimensionKeys(**{**reserved.model_dump(), "name": draft.name})
        return Block(draft.kind, draft.name, draft.type, draft.spec, draft.settings, known, reserved)

    def _panel(self, draft: _Draft, names: Sequence[str]) -> Sequence[str]:
        """The judges of a dimension's panel, checked; none for a dimension without one."""
        keys = draft.reserved
        if not isinstance(keys, DimensionKeys):
            return ()

        def wrong(key: str, message: str) -> None:
            self.problems.add(message, (*draft.path, key))

        judges = keys.judges or ()
        if judges and "judge" in draft.named:
            wrong("judges", "give either `judge` or `judges`")
        if len(set(judges)) < len(judges):
            wrong("judges", "a judge stands here twice; `repeat` asks one judge several times")
        for name in judges:
            if name not in names:
                there = f"judges: {', '.join(names)}" if names else "the pipeline has no judges"
                wrong("judges", f"no judge is named {name!r}; {there}{did_you_mean(name, names)}")
        if keys.panel_min is not None and keys.panel_min > len(judges):
            wrong("panel_min", f"{keys.panel_min} judges can't answer of {len(judges)}" if judges else "needs `judges`")
        if "panel" in keys.model_fields_set and not judges:
            wrong("panel", "needs `judges`, the names of those who rate")
        cascade = keys.panel == "cascade"
        if "sure" in keys.model_fields_set and not cascade:
            wrong("sure", "needs `panel: cascade`")
        if cascade and len(judges) == 1:
            wrong("judges", "a cascade needs several judges")
        if cascade and keys.repeat > 1:
            wrong("repeat", "in a cascade each judge is asked once")
        if cascade and keys.panel_min is not None:
            wrong("panel_min", "in a cascade one judge decides")
        return judges

    def _who(self, kind: str, draft: _Draft, names: Sequence[str]) -> str | None:
        """The name of the component of this kind that a block works with."""
        named, key = draft.named.get(kind), MAPS[kind]
        listed = f"{key}: {', '.join(names)}" if names else f"the pipeline has no {key}"
        if named is not None:
            if named in names:
                return str(named)
            near = did_you_mean(named, names) if isinstance(named, str) else ""
            shown = self.document.hidden((*draft.path, kind)) or repr(named)
            self.problems.add(f"no {kind} is named {shown}; {listed}{near}", (*draft.path, kind))
        elif "main" in names:
            return "main"
        elif len(names) == 1:
            return names[0]
        elif names:
            self.problems.add(f"there are several {key}; name one: `{kind}: {names[0]}`; {listed}", (*draft.path, kind))
        elif not self.problems.has((key,)):
            self.problems.add(f"{draft.type} needs {_a(kind)}; add one under `{key}:`", (*draft.path, kind))
        return None


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else repr(value)[:60]
