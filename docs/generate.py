"""Writes the generated parts of the reference: ``python docs/generate.py``.

A page has them between ``<!-- generated: NAME ARGUMENT -->`` and ``<!-- end of generated -->``. They are made of the
code itself (settings models, hook specs, click commands, public names), and tests/test_reference.py fails when a page
differs from what would be written now.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel

import lrf
from lrf.cli.main import cli
from lrf.config.model import (
    BudgetSettings,
    DataKeys,
    DimensionKeys,
    GlobalSettings,
    Interpreters,
    Policy,
    RateKeys,
    SampleKeys,
)
from lrf.errors import Reason
from lrf.plugin import hookspecs
from lrf.plugin.catalog import load_catalog, load_settings
from lrf.plugin.spec import ComponentSpec

REFERENCE = Path(__file__).parent / "reference"
MODELS: Mapping[str, type[BaseModel]] = {
    m.__name__: m
    for m in (GlobalSettings, Policy, BudgetSettings, Interpreters, DataKeys, SampleKeys, RateKeys, DimensionKeys)
}
MANY = 8
"""So many settings that all components of a kind have alike are listed once."""
_PART = re.compile(r"(<!-- generated: (\S+)(?: (\S+))? -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def generated(page: str) -> str:
    """The page with every generated part as the code has it now."""
    return _PART.sub(lambda m: f"{m[1]}\n{PARTS[m[2]](m[3])}\n\n{m[4]}", page)


def prose(docstring: str | None) -> str:
    """A docstring as Markdown: roles and double backquotes become code; paragraphs become one line each."""
    text = inspect.cleandoc(docstring or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")
    return "\n\n".join(p if p.startswith(("*", "    ")) else " ".join(p.split()) for p in text.split("\n\n"))


# --- settings ----------------------------------------------------------------------------------------------------


def keys(name: str | None) -> str:
    """The table of a model of the pipeline itself."""
    return _table(_rows(MODELS[name or ""]))


def components(kind: str | None) -> str:
    """Every built-in component of a kind, with its settings; those that all of them have come first, if many."""
    catalog = load_catalog()
    specs = [s for s in catalog.specs(kind or "") if catalog.package_of(s).name == "lrf"]
    rows = [_rows(load_settings(s)) for s in specs]
    shared = [row for row in rows[0] if all(row in others for others in rows)] if rows else []
    if len(specs) == 1 or len(shared) < MANY:
        shared = []
    parts = [f"All of them take:\n\n{_table(shared)}"] if shared else []
    own = ([row for row in found if row not in shared] for found in rows)
    return "\n\n".join([*parts, *(_component(spec, found) for spec, found in zip(specs, own, strict=True))])


def _component(spec: ComponentSpec, rows: Sequence[str]) -> str:
    lines = [f"#### `type: {spec.name}`", f"{_begun(spec.summary)}."]
    if spec.extra:
        lines.append(f"Needs the extra: `pip install 'lrf[{spec.extra}]'`.")
    if spec.needs:
        which = " and ".join(f"`{need}: NAME`" for need in spec.needs)
        lines.append(f"Works with {which} (left out: `main`, else the only one).")
    lines.append(_table(rows) if rows else "It has no settings.")
    return "\n\n".join(lines)


def _table(rows: Sequence[str]) -> str:
    return "\n".join(["| key | value | default | what it is |", "|---|---|---|---|", *rows])


def _rows(model: type[BaseModel]) -> list[str]:
    schema = model.model_json_schema()
    rows = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else _default(field)
        inner = _resolved(field, schema)
        rows.append(f"| `{name}` | {_value(field, schema)} | {default} | {_sentence({**inner, **field})} |")
        rows += (
            f"| `{name}.{key}` | {_value(sub, schema)} | {_default(sub)} | {_sentence(sub)} |"
            for key, sub in inner.get("properties", {}).items()
        )
    return rows


def _sentence(schema: Mapping[str, Any]) -> str:
    text = schema.get("description", "").rstrip(".").replace("|", "\\|").replace("<", "&lt;")
    options = [o for part in (schema, *schema.get("anyOf", ())) for o in part.get("enum", ())]
    return f"{_begun(text, options)}." if text else ""


def _begun(text: str, options: Sequence[object] = ()) -> str:
    """With a capital, unless it begins with a name: an address, vLLM, host:port, or one of the options."""
    first = text.split()[0].rstrip(",:;.")
    name = first in options or not first.isascii() or any(c in ":/" or c.isdigit() or c.isupper() for c in first)
    return text if name else text[:1].upper() + text[1:]


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object that a property refers to, also where it may be null."""
    for part in (schema, *schema.get("anyOf", ())):
        if "$ref" in part:
            found: Mapping[str, Any] = root["$defs"][part["$ref"].rsplit("/", 1)[-1]]
            return found
    return {}


def _default(schema: Mapping[str, Any]) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return "a block" if isinstance(value, dict) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


def _value(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What may stand there, in words."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_value(part, root) for part in schema["anyOf"]))
    if "$ref" in schema:
        return "block"
    if "enum" in schema or "const" in schema:
        return " or ".join(f"`{v}`" for v in schema.get("enum") or [schema["const"]])
    if schema.get("type") == "array":
        return f"list of: {_value(schema.get('items', {}), root)}"
    inner = schema.get("additionalProperties")
    if schema.get("type") == "object" and isinstance(inner, dict) and inner:
        return f"map of names to: {_value(inner, root)}"
    return _plain_value(schema)


def _plain_value(schema: Mapping[str, Any]) -> str:
    """A type without parts, in words."""
    if schema.get("type") == "string" and schema.get("format") in ("path", "file-path"):
        return "path"
    words = {"boolean": "`true` or `false`", "null": "`null`", "object": "map", "string": "text"}
    words |= {"integer": f"whole number{_range(schema)}", "number": f"number{_range(schema)}"}
    return words.get(schema.get("type", ""), "any")


def _range(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {schema[key]}" for key, sign in words.items() if key in schema]
    return f" {', '.join(found)}" if found else ""


# --- hooks -------------------------------------------------------------------------------------------------------


def hook_names() -> list[str]:
    """All hooks in the order of the module."""
    return [name for name, value in vars(hookspecs).items() if name.startswith("lrf_") and inspect.isfunction(value)]


def hooks(family: str | None) -> str:
    """Each hook of a family: its signature, when it is called, its arguments."""
    registering = family == "register"
    names = [n for n in hook_names() if n.startswith("lrf_register_") == registering]
    return "\n\n".join(_hook(n) for n in names)


def _hook(name: str) -> str:
    function = getattr(hookspecs, name)
    signature = str(inspect.signature(function)).replace("'", "")
    signature = re.sub(r"\b(collections\.abc|lrf\.\w+)\.", "", signature)
    return f"### `{name}`\n\n`{name}{signature}`\n\n{prose(function.__doc__)}"


# --- commands ----------------------------------------------------------------------------------------------------


def commands(_: str | None) -> str:
    """Every command: usage, help, arguments, options."""
    return "\n\n".join(_command(name) for name in cli.list_commands(click.Context(cli)))


def _command(name: str) -> str:
    group = click.Context(cli, info_name="lrf")
    command = cli.get_command(group, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=group)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"### `lrf {name}`", f"`{usage}`", prose(command.help)]
    rows = ["| option | default | what it does |", "|---|---|---|"]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            rows.append(_option(parameter, context))
    lines += ["\n".join(rows)] if len(rows) > 2 else []
    return "\n\n".join(lines)


def _option(option: click.Option, context: click.Context) -> str:
    flags = ", ".join(f"`{o}`" for o in option.opts)
    value = "" if option.is_flag else f" {option.make_metavar(context)}"
    default = "" if option.is_flag or not option.show_default else f"`{option.default}`"
    return f"| {flags}{value.replace('|', ' or ')} | {default} | {' '.join((option.help or '').split())} |"


# --- reasons -----------------------------------------------------------------------------------------------------


def reasons(concerns: str | None) -> str:
    """The words that say why a candidate, a sample or a pair has no result, each with its sentence."""
    rows = (f"| `{reason}` | {reason.sentence} |" for reason in Reason if reason.concerns == concerns)
    return "\n".join(["| reason | what happened |", "|---|---|", *rows])


# --- the library ---------------------------------------------------------------------------------------------------

_GROUPS: Mapping[str, str] = {
    "api": "Scoring and running",
    "stages.outcome.loading": "Reading a run",
    "stages.outcome.index": "Looking through a run",
    "stages.outcome.joined": "The samples of a run",
    "types": "Samples, judgements, rewards",
    "prompting.requests": "Asking a judge",
    "prompting.expectations": "What a reply must hold",
    "prompting.questions": "Questions on shared material",
    "prompting.templates": "Prompts",
    "protocols": "What a component must be able to do",
    "plugin.spec": "Registering",
    "plugin.hookspecs": "Hooks",
    "settings": "Settings",
    "errors": "Errors",
}


def exports(_: str | None) -> str:
    """Every public name, under the module that it comes from."""
    groups: dict[str, list[str]] = {module: [] for module in _GROUPS}
    for name in lrf.__all__:
        if name != "__version__":
            groups[_home(name)].append(name)
    listed = {module: "\n".join(_exported(n, module) for n in names) for module, names in groups.items()}
    return "\n\n".join(f"### {_GROUPS[module]}\n\n{names}" for module, names in listed.items() if names)


def _home(name: str) -> str:
    return next(m for m in _GROUPS if name in importlib.import_module(f"lrf.{m}").__all__)


def _exported(name: str, module: str) -> str:
    value = getattr(lrf, name)
    if inspect.isclass(value) or inspect.isfunction(value):
        text = prose(value.__doc__).split("\n\n")[0]
        fields = _fields(value)
    else:
        text, fields = _constant(name, module), ""
    return f"- **`{name}`**{fields}: {text}"


def _constant(name: str, module: str) -> str:
    """The text under a name that is neither a class nor a function."""
    source = inspect.getsource(importlib.import_module(f"lrf.{module}"))
    found = re.search(rf'^{name} = [^\n]*\n"""(.*?)"""', source, re.MULTILINE | re.DOTALL)
    return prose(found[1]) if found else CONSTANTS[name]


def modules(_: str | None) -> str:
    """Every module that a plugin may import; import-linter forbids it all others."""
    names = [m.name for m in pkgutil.walk_packages(lrf.__path__, "lrf.") if not m.ispkg]
    rows = [
        f"| `{name}` | {_first_sentence(name)} |"
        for name in names
        if any(name == open_ or name.startswith(f"{open_}.") for open_ in lrf._FOR_PLUGINS)
    ]
    return "\n".join(["| module | what is in it |", "|---|---|", *rows])


def _first_sentence(module: str) -> str:
    return re.split(r"(?<=\.)\s", prose(importlib.import_module(module).__doc__))[0]


CONSTANTS: Mapping[str, str] = {
    "API_VERSION": "The version of the plugin interface: a whole number, raised when plugins must change.",
    "Prompt": "A prompt: a tuple of `Segment`s, joined without anything between them.",
    "hookimpl": "Marks a function of a plugin as the implementation of a hook.",
}


def _fields(value: Any) -> str:
    names = [n for n in getattr(value, "__dataclass_fields__", {}) if not n.startswith("_")]
    return f"({', '.join(names)})" if names else ""


PARTS = {
    "keys": keys,
    "components": components,
    "hooks": hooks,
    "reasons": reasons,
    "commands": commands,
    "exports": exports,
    "modules": modules,
}


def main() -> None:
    for path in sorted(REFERENCE.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        new = generated(page)
        if new != page:
            path.write_text(new, encoding="utf-8")
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
