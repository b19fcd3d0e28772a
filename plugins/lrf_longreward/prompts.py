"""The prompts of the four dimensions: the built-in files, and a user's files that replace them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from lrf.errors import ConfigError
from lrf.plugin.suggest import did_you_mean
from lrf.prompting.templates import Template
from lrf_longreward.settings import Language, PromptSettings

BUILT_IN = Path(__file__).with_name("prompts")
LANGUAGES: tuple[Language, ...] = get_args(Language)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields that a prompt must use, and those that it may use in addition."""

    required: frozenset[str]
    optional: frozenset[str] = frozenset()


# The names of LongReward's published prompts: "context" is the evidence, the chunk or the notes.
FIELDS: Mapping[str, Fields] = {
    "helpfulness": Fields(frozenset({"question", "answer"})),
    "logicality": Fields(frozenset({"question", "answer"})),
    "statements": Fields(frozenset({"answer"}), frozenset({"question"})),
    "verdict": Fields(frozenset({"context", "statement"}), frozenset({"question"})),
    "verdicts": Fields(frozenset({"items"})),
    "notes": Fields(frozenset({"context", "question"})),
    "merge": Fields(frozenset({"context", "question"})),
    "completeness": Fields(frozenset({"context", "question", "answer"})),
}

# Of judges that decide: the material, and the questions on it, which say nothing of how to reply.
QUESTION_FIELDS: Mapping[str, Fields] = {
    "document": Fields(frozenset({"context"})),
    "document_answer": Fields(frozenset({"context", "question", "answer"})),
    "ask_statement": Fields(frozenset({"statement"})),
    "ask_passage": Fields(frozenset({"statement"})),
    "ask_helpfulness": Fields(frozenset()),
    "ask_logicality": Fields(frozenset()),
    "ask_completeness": Fields(frozenset()),
}
# What is explained afterwards of a verdict or a rating that was given without a word.
EXPLAINING_FIELDS: Mapping[str, Fields] = {
    "explain_statement": Fields(frozenset({"context", "statement"})),
    "explain_rating": Fields(frozenset({"context", "question", "answer", "criterion", "rating"})),
}
ALL_FIELDS = {**FIELDS, **QUESTION_FIELDS, **EXPLAINING_FIELDS}


class Prompts:
    """One prompt in the languages that are needed. Its files are read once, when it is made.

    Raises :class:`lrf.errors.ConfigError` for a folder or a file that can't be used.
    """

    def __init__(self, name: str, settings: PromptSettings) -> None:
        if settings.prompts is not None:
            _check_folder(settings.prompts)
        self._only: Language | None = None if settings.language == "auto" else settings.language
        languages = LANGUAGES if self._only is None else (self._only,)
        self._templates = {language: _load(name, language, settings.prompts) for language in languages}

    def language(self, documents: str) -> Language:
        """The language that was set, else that of the documents: "zh", or "en" for everything else."""
        return self._only or ("zh" if documents == "zh" else "en")

    def template(self, documents: str) -> Template:
        """The template to use when the documents are in this language."""
        return self._templates[self.language(documents)]


def _load(name: str, language: Language, folder: Path | None) -> Template:
    file = BUILT_IN / language / f"{name}.txt"
    if folder is not None:
        own = (folder / language / f"{name}.txt", folder / f"{name}.txt")
        file = next((path for path in own if path.is_file()), file)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: can't be read as UTF-8 text: {error}") from None
    fields = ALL_FIELDS[name]
    # an editor's last line break would stand between the cue and the reply
    template = Template(text.rstrip("\r\n"), fields.required | fields.optional, name=str(file))
    if missing := sorted(fields.required - template.used):
        raise ConfigError(f"{file}: the field <<{missing[0]}>> is missing; the prompt needs {_marks(fields.required)}")
    return template


def _check_folder(folder: Path) -> None:
    """Raises ConfigError for a text file that no prompt is named like: it would silently have no effect."""
    if not folder.is_dir():
        raise ConfigError(f"prompts: there is no folder {folder}")
    known = {f"{name}.txt" for name in ALL_FIELDS} | {f"{lang}/{name}.txt" for lang in LANGUAGES for name in ALL_FIELDS}
    names = sorted(path.relative_to(folder).as_posix() for path in (*folder.glob("*.txt"), *folder.glob("*/*.txt")))
    for name in names:
        if name not in known:
            allowed = ", ".join(f"{n}.txt" for n in ALL_FIELDS)
            raise ConfigError(
                f"{folder / name}: no prompt has this name; allowed: {allowed}, in {folder} or in its folders "
                f"{' and '.join(LANGUAGES)}{did_you_mean(name, known)}"
            )


def _marks(fields: frozenset[str]) -> str:
    return ", ".join(f"<<{field}>>" for field in sorted(fields))
