"""The prompts of the four dimensions: the built-in files, and a user's files in their place."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lrf.errors import ConfigError
from lrf.prompting.expectations import Rating, Statements, Text, Verdict, Verdicts
from lrf.prompting.requests import Expectation, Reply, ReplyMode
from lrf.settings import Settings
from lrf.text.chunking import count_tokens
from lrf_longreward.completeness import Completeness, says_nothing
from lrf_longreward.faithfulness import Faithfulness
from lrf_longreward.helpfulness import Helpfulness
from lrf_longreward.logicality import Logicality
from lrf_longreward.plugin import lrf_register_dimensions
from lrf_longreward.prompts import ALL_FIELDS, BUILT_IN, EXPLAINING_FIELDS, FIELDS, LANGUAGES, Prompts
from lrf_longreward.settings import CompletenessSettings, FaithfulnessSettings, HelpfulnessSettings, PromptSettings
from lrf_longreward.support import SUPPORT

EXPECTS: Mapping[str, Expectation[Any]] = {
    "helpfulness": Rating(),
    "logicality": Rating(),
    "statements": Statements(),
    "verdict": Verdict(SUPPORT),
    "verdicts": Verdicts(SUPPORT, 2),
    "notes": Text(),
    "merge": Text(),
    "completeness": Rating(),
}
CUES = {"statements": "Statements:", "verdicts": "Verdicts:", "notes": "Notes:", "merge": "Notes:"}
FIELD_ORDER = ["context", "question", "answer", "statement", "items"]
FILES = [(language, name) for language in LANGUAGES for name in FIELDS]
every_file = pytest.mark.parametrize(("language", "name"), FILES)


def built_in(language: str, name: str) -> str:
    return (BUILT_IN / language / f"{name}.txt").read_text(encoding="utf-8")


def blocks(text: str) -> list[str]:
    """The instructions, the examples, and the task itself."""
    return re.split(r"^### .*\n", text, flags=re.MULTILINE)


def test_both_languages_have_all_prompts_and_nothing_else() -> None:
    found = sorted(path.relative_to(BUILT_IN).as_posix() for path in BUILT_IN.rglob("*") if path.is_file())
    assert found == sorted(f"{language}/{name}.txt" for language in LANGUAGES for name in ALL_FIELDS)


@every_file
def test_a_built_in_prompt_uses_exactly_the_published_fields(language: str, name: str) -> None:
    template = Prompts(name, PromptSettings()).template(language)
    assert template.text == built_in(language, name).rstrip("\n")
    assert template.used >= FIELDS[name].required
    assert template.used <= {"question", "answer", "context", "statement", "items"}


@pytest.mark.parametrize("name", FIELDS)
def test_a_prompt_uses_the_same_fields_in_the_same_order_in_both_languages(name: str) -> None:
    english, chinese = (re.findall(r"<<\w+>>", built_in(language, name)) for language in ("en", "zh"))
    assert english == chinese


@every_file
def test_instructions_and_examples_come_before_any_field_so_that_all_calls_share_them(language: str, name: str) -> None:
    *shared, task = blocks(built_in(language, name))
    assert not any("<<" in block for block in shared)
    # nothing but tags and the cue beside the fields, and the candidate last
    literals = re.sub(r"<<\w+>>", "", task).split()
    assert [x for x in literals if not re.fullmatch(r"</?\w+>", x)] == [CUES.get(name, "Analysis:")]
    order = [FIELD_ORDER.index(field) for field in re.findall(r"<<(\w+)>>", task)]
    assert order == sorted(order)


@every_file
def test_a_prompt_ends_with_the_cue_after_which_the_examples_reply(language: str, name: str) -> None:
    cue = CUES.get(name, "Analysis:")
    text = built_in(language, name)
    assert text.endswith(f"\n{cue}\n")
    assert all(f"\n{cue}" in block for block in blocks(text)[1:])


@every_file
def test_the_reply_in_each_example_is_one_that_we_can_read(language: str, name: str) -> None:
    cue, expects = CUES.get(name, "Analysis:"), EXPECTS[name]
    _, *examples, _ = blocks(built_in(language, name))
    values = [example.split(f"\n{cue}")[1] for example in examples]

    reply_mode: ReplyMode = "json" if isinstance(expects, Verdicts) else "text"

    read = [expects.read(Reply(reply), reply_mode) for reply in values]

    assert 2 <= len(read) <= 3
    if isinstance(expects, Rating):
        assert len(set(read)) == len(read)
        assert min(read) <= 3 < 9 <= max(read)
    elif isinstance(expects, Verdict):
        assert sorted(read) == sorted(SUPPORT)
    elif isinstance(expects, Verdicts):
        assert {label for labels in read for label in labels} == set(SUPPORT)
    elif isinstance(expects, Statements):
        assert sorted(map(bool, read)) == [False, True, True]
    else:
        assert [says_nothing(note) for note in read] == [name == "notes", False]


@every_file
def test_a_prompt_holds_no_mark_of_another_kind(language: str, name: str) -> None:
    allowed = {"statements": r"No factual statements", "verdict": "|".join(SUPPORT), "notes": "never"}
    marks = re.findall(r"\[\[(.*?)\]\]", built_in(language, name))
    assert all(re.fullmatch(allowed.get(name, r"\d+(\.\d)?"), mark) for mark in marks)


@every_file
def test_a_prompt_is_compact(language: str, name: str) -> None:
    assert count_tokens(built_in(language, name)) <= (620 if name in ("verdict", "notes") else 1000)


def test_a_users_file_replaces_ours_in_both_languages_and_the_others_stay(tmp_path: Path) -> None:
    (tmp_path / "verdict.txt").write_text("<<context>>|<<statement>>\nVerdict:\n")
    settings = PromptSettings(prompts=tmp_path)

    assert Prompts("verdict", settings).template("zh").text == "<<context>>|<<statement>>\nVerdict:"
    assert Prompts("verdict", settings).template("en").text == "<<context>>|<<statement>>\nVerdict:"
    assert Prompts("statements", settings).template("zh").text == built_in("zh", "statements").rstrip("\n")


def test_a_users_file_for_one_language_wins_over_the_one_for_all(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    (tmp_path / "logicality.txt").write_text("all <<question>> <<answer>>")
    (tmp_path / "zh" / "logicality.txt").write_text("中文 <<question>> <<answer>>", encoding="utf-8")
    prompts = Prompts("logicality", PromptSettings(prompts=tmp_path))

    assert prompts.template("zh").text.startswith("中文")
    assert prompts.template("en").text.startswith("all")


def test_the_published_fields_work_unchanged_in_a_users_file(tmp_path: Path) -> None:
    published = {
        "helpfulness": "[Question]\n<<question>>\n[Answer]\n<<answer>>\n[Analysis]",
        "logicality": "[Question]\n<<question>>\n[Answer]\n<<answer>>\n[Analysis]",
        "statements": "[Question]\n<<question>>\n[Answer]\n<<answer>>\n[Statements]",
        "verdict": "<passage>\n<<context>>\n</passage>\n<statement>\n<<statement>>\n</statement>",
        "verdicts": "<<items>>",
        "notes": "[Document]\n<<context>>\n[Question]\n<<question>>",
        "merge": "[Notes]\n<<context>>\n[Question]\n<<question>>",
        "completeness": "[Document]\n<<context>>\n[Question]\n<<question>>\n[Answer]\n<<answer>>\n[Analysis]",
    }
    for name, text in published.items():
        (tmp_path / f"{name}.txt").write_text(text)
    settings = PromptSettings(prompts=tmp_path)

    assert {name: Prompts(name, settings).template("en").text for name in FIELDS} == published


def test_files_are_read_once(tmp_path: Path) -> None:
    file = tmp_path / "helpfulness.txt"
    file.write_text("old <<question>> <<answer>>")
    prompts = Prompts("helpfulness", PromptSettings(prompts=tmp_path))
    file.unlink()
    assert prompts.template("en").text.startswith("old")


def test_windows_line_ends_and_byte_order_marks_are_taken_away(tmp_path: Path) -> None:
    (tmp_path / "helpfulness.txt").write_bytes(b"\xef\xbb\xbf<<question>>\r\n<<answer>>\r\nAnalysis:\r\n")
    template = Prompts("helpfulness", PromptSettings(prompts=tmp_path)).template("en")
    assert template.text == "<<question>>\n<<answer>>\nAnalysis:"


def test_an_unknown_field_is_refused_with_file_field_and_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "verdict.txt").write_text("<<context>> <<claim>>")
    with pytest.raises(ConfigError) as caught:
        Faithfulness(FaithfulnessSettings(prompts=tmp_path))
    assert str(caught.value) == (
        f"{tmp_path / 'verdict.txt'}: unknown field <<claim>>; allowed: <<context>>, <<question>>, <<statement>>"
    )


@pytest.mark.parametrize(("name", "field"), [(n, f) for n, fields in FIELDS.items() for f in sorted(fields.required)])
def test_a_users_file_without_a_needed_field_is_refused(tmp_path: Path, name: str, field: str) -> None:
    others = " ".join(f"<<{other}>>" for other in FIELDS[name].required - {field})
    (tmp_path / f"{name}.txt").write_text(others)
    with pytest.raises(ConfigError, match=f"{name}.txt: the field <<{field}>> is missing; the prompt needs .*<<"):
        Prompts(name, PromptSettings(prompts=tmp_path))


def test_a_file_of_a_language_that_is_not_used_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "zh").mkdir()
    (tmp_path / "zh" / "helpfulness.txt").write_text("broken")
    Helpfulness(HelpfulnessSettings(prompts=tmp_path, language="en"))
    with pytest.raises(ConfigError):
        Helpfulness(HelpfulnessSettings(prompts=tmp_path))


@pytest.mark.parametrize("name", ["helpfullness.txt", "cn/helpfulness.txt", "zh/helpfullness.txt"])
def test_a_misspelt_file_is_an_error_and_not_passed_over(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("<<question>> <<answer>>")
    with pytest.raises(ConfigError, match=r"no prompt has this name; allowed: .*did you mean .*helpfulness\.txt\?"):
        Helpfulness(HelpfulnessSettings(prompts=tmp_path))


def test_a_folder_that_is_not_there_and_a_file_that_is_no_utf8_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder"):
        Helpfulness(HelpfulnessSettings(prompts=tmp_path / "nowhere"))
    (tmp_path / "helpfulness.txt").write_bytes(b"\xff\xfe<\x00<\x00")
    with pytest.raises(ConfigError, match=r"helpfulness\.txt: can't be read as UTF-8 text"):
        Helpfulness(HelpfulnessSettings(prompts=tmp_path))


def test_a_relative_folder_starts_at_the_pipeline_files_folder(tmp_path: Path) -> None:
    settings = PromptSettings.model_validate({"prompts": "mine"}, context={"folder": tmp_path})
    assert settings.prompts == tmp_path / "mine"


@pytest.mark.parametrize("dimension", [Helpfulness, Logicality, Faithfulness, Completeness])
def test_every_dimension_works_without_settings(dimension: type) -> None:
    assert callable(dimension().score)


@pytest.mark.parametrize("value", ["unscored", 0, 10, 2.5])
def test_no_statements_takes_unscored_or_a_rating(value: object) -> None:
    assert FaithfulnessSettings.model_validate({"no_statements": value}).no_statements == value


@pytest.mark.parametrize(
    ("settings", "values"),
    [
        *((FaithfulnessSettings, {"no_statements": value}) for value in ("zero", -1, 10.1, True, "5", None)),
        *((FaithfulnessSettings, {key: 0}) for key in ("top_k", "max_statements", "max_statement")),
        (FaithfulnessSettings, {"language": "de"}),
        (CompletenessSettings, {"chunk_tokens": 0}),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: type[Settings], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings.model_validate(values)


def test_what_is_registered_can_be_imported_and_every_setting_is_described() -> None:
    specs = {spec.name: spec for spec in lrf_register_dimensions()}
    assert {name: spec.needs for name, spec in specs.items()} == {
        "helpfulness": ("judge",),
        "logicality": ("judge",),
        "faithfulness": ("judge", "retriever"),
        "completeness": ("judge",),
    }
    for spec in specs.values():
        component, model = (_load(target) for target in (spec.target, spec.settings))
        component(model())
        assert issubclass(model, Settings)
        assert all(field.description for field in model.model_fields.values())


def _load(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "replace-the-prompts.md"


def test_the_how_to_names_every_file_with_the_fields_it_needs_and_may_use() -> None:
    row = re.compile(r"^\| `(\w+)\.txt` \| [\w ]+ \| (.*?) \| ?(.*?) ?\|", re.MULTILINE)
    rows = row.findall(HOW_TO.read_text("utf-8"))
    told = {name: tuple(frozenset(re.findall(r"<<(\w+)>>", cell)) for cell in cells) for name, *cells in rows}
    assert told == {
        name: (fields.required, fields.optional) for name, fields in {**FIELDS, **EXPLAINING_FIELDS}.items()
    }
