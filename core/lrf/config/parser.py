"""A pipeline file is parsed into a :class:`Pipeline`; every mistake in it is reported at once."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from lrf.config.linking import MAPS, Linker, UnlinkedBlock
from lrf.config.model import (
    RESERVED,
    ComponentBlock,
    DataKeys,
    DimensionKeys,
    GlobalSettings,
    Pipeline,
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
from lrf.plugin.suggest import did_you_mean
from lrf.rows.part import Part
from lrf.settings import Settings
from lrf.text.redaction import hide, hide_keys, redact, reveal

S = TypeVar("S", bound=Settings)

KEYS = (
    "name",
    "seed",
    "method",
    "data",
    "part",
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
    "observers",
    "executor",
    "python",
    "max_unscored",
    "calibration",
    "budget",
    "prices",
    "cache",
)
"""The keys of a pipeline, in the order in which they are usually written."""


def load_pipeline(
    path: str | Path, catalog: Catalog, environ: Mapping[str, str] = os.environ, *, without: Sequence[str] = ()
) -> Pipeline:
    """Read a pipeline file, but for the keys in ``without``.

    Raises :class:`lrf.errors.ConfigError` with every mistake in it: file, line, path, what is allowed. Nothing is run
    or built, and of the components only the settings are imported.
    """
    path = Path(path)
    return _read(read_text(path), catalog, path.absolute().parent, path, environ, without)


def parse_pipeline(
    source: Mapping[str, Any] | str,
    catalog: Catalog,
    *,
    folder: str | Path | None = None,
    environ: Mapping[str, str] = os.environ,
    without: Sequence[str] = (),
) -> Pipeline:
    """Read a pipeline from YAML text, or from a mapping that is laid out as a file would be.

    ``folder`` is where relative paths start: the current directory, if left out. Raises as :func:`load_pipeline`.
    """
    return _read(source, catalog, Path(folder or ".").absolute(), None, environ, without)


def _read(
    source: Mapping[str, Any] | str,
    catalog: Catalog,
    folder: Path,
    file: Path | None,
    environ: Mapping[str, str],
    without: Sequence[str],
) -> Pipeline:
    problems = Problems(str(file) if file else None)
    hide_keys(environ)
    document = read_document(source, problems, environ, without)
    return PipelineParser(document, problems, catalog, folder, file, environ).pipeline()


class PipelineParser:
    """Parses one document and collects its mistakes.

    Parameters
    ----------
    document: the values of the file.
    problems: collects the mistakes.
    catalog: the components that are installed.
    folder: where relative paths start.
    file: the pipeline's file, or None for a pipeline from elsewhere.
    environ: the environment, in which keys are looked up.
    """

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
        # the `context` of validators: what a component's settings can be checked against
        self.context: dict[str, Any] = {"folder": folder}
        values = document.values
        self.method = str(values.get("method")) if isinstance(values, dict) else ""

    def pipeline(self) -> Pipeline:
        top = self._top()
        head = self._validate(GlobalSettings, {k: v for k, v in top.items() if k in GlobalSettings.model_fields}, ())
        components = {kind: self._map(kind, top.get(key)) for kind, key in MAPS.items()}
        dimensions = self._list("dimension", "dimensions", top.get("dimensions"))
        observers = self._list("observer", "observers", top.get("observers"))
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
        executor = self._single("executor", "executor", top.get("executor"))

        linker = Linker(self.document, self.problems, {kind: tuple(named) for kind, named in components.items()})
        blocks: dict[str, Any] = {
            MAPS[kind]: {name: linker.link(block) for name, block in named.items()}
            for kind, named in components.items()
        }
        blocks["dimensions"] = tuple(map(linker.link, dimensions))
        blocks["observers"] = tuple(map(linker.link, observers))
        singles = {"data": data, "sample": sample, "aggregator": aggregator, "pairs": pairs, "train": train}
        for key, block in {**singles, "launcher": launcher, "executor": executor}.items():
            blocks[key] = linker.link(block) if block else None
        if train is not None and train.spec is not None and train.spec.rewards:
            self._check_online(train.type, top)
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
            part=Part.parse(head.part) if head.part else None,
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

    def _check_online(self, trainer: str, top: Mapping[str, Any]) -> None:
        """Check what a trainer needs that asks for rewards while it trains, and that no key is in vain."""
        for key, why in (("data", "its prompts"), ("dimensions", "what it is rewarded for")):
            if not top.get(key):
                self.problems.add(f"missing; the trainer {trainer} takes {why} from it", (key,))
        for key in ("sample", "pairs", "calibration"):
            if key in top:
                why = "writes its own answers and asks for their rewards while it trains"
                self.problems.add(f"the trainer {trainer} {why}; leave it out", (key,))

    def _check_prices(self, head: GlobalSettings, blocks: Mapping[str, Any]) -> None:
        """Check that the price file can be read, and that with a budget of money every judge has a price."""
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
        except Exception as error:  # a plugin's own validator may raise anything
            self.problems.add(redact(f"checking the settings failed: {type(error).__name__}: {error}"), path)
        return None

    # --- blocks ------------------------------------------------------------------------------------------------

    def _map(self, kind: str, values: Any) -> dict[str, UnlinkedBlock]:
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
        return {name: self.unlinked(kind, name, value, (key, name)) for name, value in values.items()}

    def _list(self, kind: str, key: str, values: Any) -> list[UnlinkedBlock]:
        if values is None:
            return []
        if not isinstance(values, list):
            self.problems.add(f"expected a list of {key}; got {_kind(values)}", (key,))
            return []
        unlinked: dict[str, UnlinkedBlock] = {}
        for i, value in enumerate(values):
            block = self.unlinked(kind, "", value, (key, i))
            own = block.reserved.name if isinstance(block.reserved, DimensionKeys) else None
            block.name = own or block.type
            if block.name and block.name in unlinked:
                mend = "give one of them a `name:`" if kind == "dimension" else "leave one of them out"
                self.problems.add(f"another {kind} is named {block.name!r} too; {mend}", block.path)
            unlinked[block.name or f"?{i}"] = block
        return list(unlinked.values())

    def _single(self, kind: str, key: str, value: Any) -> UnlinkedBlock | None:
        if value is None:
            return None
        block = self.unlinked(kind, "", value, (key,))
        block.name = block.type
        return block

    def unlinked(self, kind: str, name: str, value: Any, path: KeyPath) -> UnlinkedBlock:
        """The block at ``path``. It has no settings where they contain a mistake."""
        block = UnlinkedBlock(kind, name, path)
        if isinstance(value, str):
            values, type_path = {"type": value}, path
        elif isinstance(value, dict):
            values, type_path = dict(value), (*path, "type")
        else:
            self.problems.add(f"expected a type, or a block with a `type:`; got {_kind(value)}", path)
            return block
        type_ = values.pop("type", None)
        if not isinstance(type_, str):
            available = ", ".join(spec.name for spec in self.catalog.specs(kind))
            self.problems.add(f"missing; give the {kind}'s type, one of: {available}", type_path)
            return block
        block.type = type_
        try:
            spec = self.catalog.find(kind, type_)
            model = load_settings(spec)
        except PluginError as error:
            self.problems.add(redact(str(error)), type_path)
            return block
        block.spec = spec
        block.named = {key: values.pop(key) for key in spec.needs if key in values}
        if kind in RESERVED:
            own = {key: values.pop(key) for key in reserved_keys(kind, spec) if key in values}
            defaults = {k: v for k, v in self._defaults(RESERVED[kind]).items() if k in reserved_keys(kind, spec)}
            block.reserved = self._validate(RESERVED[kind], {**defaults, **own}, path)
        reserved = [*reserved_keys(kind, spec), *spec.needs]
        block.settings = self._validate(model, {**self._defaults(model), **values}, path, ["type", *reserved])
        if block.settings is not None:
            self._hide_secrets(block.settings)
        return block

    def _defaults(self, model: type[Settings]) -> Mapping[str, Any]:
        """The values of fields that the pipeline's ``method`` sets unless the block does."""
        return model.by_method.get(self.method, {})

    def _hide_secrets(self, settings: Settings) -> None:
        """Register the keys that the settings name. Names of models and servers are no secrets."""
        for variable in secret_variables(settings):
            hide(self.environ.get(variable, ""), variable)
        if (reference := settings.model_reference) is not None:
            reveal(reference.name)
            reveal(reference.host or "")


def parse_block(kind: str, value: Mapping[str, Any] | str, catalog: Catalog) -> ComponentBlock:
    """One component's block on its own, for the library: as in a pipeline (a bare string is its type), without links.

    Raises :class:`lrf.errors.ConfigError` with every mistake in it.
    """
    problems = Problems(None)
    document = read_document({kind: value}, problems, os.environ)
    parser = PipelineParser(document, problems, catalog, Path.cwd(), None, os.environ)
    values = document.values.get(kind) if isinstance(document.values, dict) else None
    unlinked = parser.unlinked(kind, "", values, (kind,))
    problems.raise_any()
    assert unlinked.spec is not None
    assert unlinked.settings is not None
    own = unlinked.reserved.name if isinstance(unlinked.reserved, DimensionKeys) else None
    name = own or unlinked.type
    return ComponentBlock(kind, name, unlinked.type, unlinked.spec, unlinked.settings, {}, unlinked.reserved)


def _kind(value: Any) -> str:
    if isinstance(value, dict):
        return "a block of keys"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else repr(value)[:60]
