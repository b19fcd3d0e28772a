"""YAML text, or a mapping, as plain values: with the line of each, and with every ``${NAME}`` replaced."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from lrf.config.problems import KeyPath, Problems
from lrf.errors import ConfigError
from lrf.text.redaction import hide_variable
from lrf.text.unicode import unusable_character

MAX_CHARACTERS = 1_000_000
MAX_VALUES = 100_000
MAX_DEPTH = 50
MAX_INT = 2**63 - 1

_VARIABLE = re.compile(r"\$(?:(?P<escape>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|(?P<broken>\{))")
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalars of YAML 1.2: ``1e-6`` is a number, ``no`` and ``1:30`` are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (PyYAML's own attribute: a class has its own table)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as another value."""

    def represent_str(self, text: str) -> yaml.ScalarNode:
        odd = '"' if re.search("[\x85\u2028\u2029]", text) else None  # line breaks to YAML, unless they are escaped
        return self.represent_scalar(_TAG + "str", text, style=odd)


_Dumper.add_representer(str, _Dumper.represent_str)


for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            _TAG + _name, re.compile(rf"^(?:{_pattern})$"), [*_first, ""] if _name == "null" else list(_first)
        )

_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "str": str,
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: {"true": True, "false": False}[text.lower()],
    _TAG + "int": lambda text: int(text, 0) if text[:2] in ("0o", "0x") else int(text),
    _TAG + "float": lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}


@dataclass(slots=True)
class YamlDocument:
    """The content of a pipeline file.

    ``as_written`` has the text of every scalar in which a ``${NAME}`` or ``$$`` was replaced: messages and the resolved
    pipeline show that text, never the value of a variable.
    """

    values: Any = None
    as_written: dict[KeyPath, str] = field(default_factory=dict)

    def hidden(self, path: KeyPath) -> str | None:
        """The text to show for the value at the path if it or a part of it came from the environment, else None."""
        for where, text in self.as_written.items():
            if where[: len(path)] == path:
                return text if where == path else "a value with variables"
        return None


def read_document(
    source: Mapping[str, Any] | str, problems: Problems, environ: Mapping[str, str], without: Sequence[str] = ()
) -> YamlDocument:
    """The values of YAML text, or of a mapping, but for the keys in ``without``, whose values aren't looked at.

    A mistake after which the rest can be read (a missing variable, a duplicate key) is added to ``problems``. Raises
    :class:`lrf.errors.ConfigError` for text that isn't YAML, or is too large.
    """
    reader = _Reader(problems, environ, without)
    try:
        if isinstance(source, str):
            if len(source) > MAX_CHARACTERS:
                raise _UnreadableError(f"the file is too large: more than {MAX_CHARACTERS} characters")
            node = _Loader(source).get_single_node()
            if node is not None:
                reader.document.values = reader.from_node(node, ())
        else:
            reader.document.values = reader.from_value(source, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problems.add(f"not valid YAML: {_yaml_says(error, source)}", line=mark.line + 1 if mark else None)
        problems.raise_any()
    except RecursionError:
        problems.add(f"nested too deeply: more than {MAX_DEPTH} levels")
        problems.raise_any()
    except _UnreadableError as error:
        problems.add(str(error), line=error.line)
        problems.raise_any()
    return reader.document


def _yaml_says(error: yaml.YAMLError, source: Any) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    line = str(source).splitlines()[error.problem_mark.line :][:1] if error.problem_mark else []
    hint = "between [ ] or { }, put ${NAME} in quotes" if "${" in "".join(line) else ""
    return "; ".join(part for part in (error.context, error.problem, hint) if part)


class _UnreadableError(Exception):
    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Reader:
    def __init__(self, problems: Problems, environ: Mapping[str, str], without: Sequence[str]) -> None:
        self.problems = problems
        self.without = without
        self.environ = environ
        self.document = YamlDocument()
        self.count = 0

    def from_node(self, node: yaml.Node, path: KeyPath) -> Any:
        line = node.start_mark.line + 1
        self.problems.lines.setdefault(path, line)
        self._one_more(path, line)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        wanted = _TAG + ("map" if isinstance(node, yaml.MappingNode) else "seq")
        if node.tag != wanted:
            self.problems.add(f"the tag {_short_tag(node.tag)} is not allowed; write plain values", path)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        return [self.from_node(item, (*path, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = key_node.value
            if not (isinstance(key_node, yaml.ScalarNode) and key_node.tag == _TAG + "str"):
                shown = key if isinstance(key, str) else "of several parts"
                self.problems.add(f"the key {shown} is not text; put it in quotes", (*path, str(shown)), line)
            elif key == "<<" and key_node.style is None:
                self.problems.add("merge keys (<<) are not supported; write the keys out", (*path, key), line)
            elif key in values:
                first = self.problems.lines[*path, key]
                self.problems.add(
                    f"this key is given twice, first on line {first}; keep one", (*path, key), line, of_value=False
                )
            else:
                self.problems.lines[*path, key] = line
                if path or key not in self.without:
                    values[key] = self.from_node(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag not in _SCALARS:
            self.problems.add(f"the tag {_short_tag(node.tag)} is not allowed; write plain values", path)
            return None
        if node.tag == _TAG + "str":
            return self._replace(node.value, path)
        try:
            return self._bounded(_SCALARS[node.tag](node.value), path)
        except (ValueError, KeyError):
            self.problems.add(f"{node.value[:40]!r} can't be read as {_short_tag(node.tag)}", path)
            return None

    def _bounded(self, value: Any, path: KeyPath) -> Any:
        """The value; None for a whole number that doesn't fit into 64 bits."""
        if isinstance(value, int) and abs(value) > MAX_INT:
            self.problems.add("a whole number of more than 64 bits; if it is text, put it in quotes", path)
            return None
        return value

    def from_value(self, value: Any, path: KeyPath) -> Any:
        self.problems.lines[path] = None
        self._one_more(path, None)
        if isinstance(value, str):
            return self._replace(value, path)
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    self.problems.add(f"the key {key!r} is not text", path)
            left_out = () if path else self.without
            return {
                k: self.from_value(v, (*path, k)) for k, v in value.items() if isinstance(k, str) and k not in left_out
            }
        if isinstance(value, list | tuple):
            return [self.from_value(v, (*path, i)) for i, v in enumerate(value)]
        return self._bounded(value, path)

    def _one_more(self, path: KeyPath, line: int | None) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise _UnreadableError(f"too many values, aliases counted: more than {MAX_VALUES}", line)
        if len(path) > MAX_DEPTH:
            raise _UnreadableError(f"nested too deeply: more than {MAX_DEPTH} levels", line)
        if path and isinstance(path[-1], str):
            self._usable(path[-1], path)

    def _usable(self, text: str, path: KeyPath) -> None:
        if (unusable := unusable_character(text)) is not None:
            self.problems.add(f"contains {unusable[0]}, which can't be stored in a file; remove it", path)

    def _replace(self, text: str, path: KeyPath) -> str:
        """``text`` with its ``${NAME}`` replaced and ``$$`` made ``$``."""

        def one(match: re.Match[str]) -> str:
            name = match["name"]
            if match["escape"]:
                return "$"
            if match["broken"]:
                self.problems.add("a variable is written ${NAME}, and a dollar sign before a brace $$", path)
            elif name not in self.environ:
                self.problems.add(f"the environment has no variable {name}; set it ($$ stands for a dollar sign)", path)
            else:
                hide_variable(self.environ[name], name)
                return self.environ[name]
            return match[0]

        replaced = _VARIABLE.sub(one, text)
        self._usable(replaced, path)
        if "$" in text and _VARIABLE.search(text):
            self.document.as_written[path] = text
        return replaced


def _short_tag(tag: str) -> str:
    return tag.replace(_TAG, "!!")


def write_document(values: Mapping[str, Any], file: IO[str]) -> None:
    """Write plain values as YAML that :func:`read_document` reads as they are (``$`` is as it is in the values)."""
    yaml.dump(values, file, _Dumper, sort_keys=False, allow_unicode=True, width=120)


def read_text(path: Path, hint: str = "`lrf init` writes one to start from") -> str:
    """The text of a pipeline file. Raises :class:`lrf.errors.ConfigError` when it can't be read."""
    try:
        with path.open("rb") as file:
            raw = file.read(4 * MAX_CHARACTERS + 1)
        if len(raw) > 4 * MAX_CHARACTERS:
            raise ConfigError(f"{path}: the file is too large: more than {MAX_CHARACTERS} characters")
        return raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {hint}") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except ValueError as error:  # a path with a NUL, or with what no path can be encoded as
        raise ConfigError(f"{str(path)!r}: can't be read: {error}") from None
