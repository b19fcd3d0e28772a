"""The reference says what the code says: generated parts are up to date, and nothing public is left out."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lrf
from lrf.config.parser import KEYS
from lrf.errors import Reason
from lrf.plugin.catalog import load_catalog, load_settings
from lrf.plugin.spec import KINDS
from lrf.prompting.templates import Template
from lrf.rows.data import FIELDS
from lrf.stages.pairs.stage import pair_row
from lrf.stages.score.rows import judgement_row, reward_row
from lrf.types import (
    Candidate,
    Document,
    JudgedStatement,
    Judgement,
    Note,
    PreferencePair,
    Quotation,
    Reward,
    Sample,
    Span,
    Unscored,
)

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(REFERENCE.glob("*.md"))


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_the_generated_parts_of_a_page_are_what_the_code_says_now(path: Path, generate: ModuleType) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == generate.generated(text), "run: python docs/generate.py"


def test_a_changed_setting_changes_the_page(generate: ModuleType) -> None:
    text = page("pipeline.md")
    assert generate.generated(text.replace("`min_candidates`", "`min_candidate`")) == text


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_pipeline_is_in_the_reference(key: str) -> None:
    assert f"| `{key}` |" in page("pipeline.md")


@pytest.mark.parametrize("kind", KINDS)
def test_every_built_in_component_is_in_the_reference_with_every_setting(kind: str) -> None:
    catalog = load_catalog()
    part = re.search(rf"<!-- generated: components {kind} -->(.*?)<!-- end", page("pipeline.md"), re.DOTALL)
    assert part
    shared = part[1].split("####")[0]
    for spec in catalog.specs(kind):
        if catalog.package_of(spec).name == "lrf":
            section = shared + part[1].split(f"#### `type: {spec.name}`")[1].split("####")[0]
            for name in load_settings(spec).model_fields:
                assert f"| `{name}` |" in section


def test_every_hook_is_in_the_reference(generate: ModuleType) -> None:
    for name in generate.hook_names():
        assert f"### `{name}`" in page("hooks.md")


def test_every_hook_has_a_test_that_names_it(generate: ModuleType) -> None:
    tests = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("*.py") if p != Path(__file__))
    assert [name for name in generate.hook_names() if name not in tests] == []


def test_every_public_name_is_in_the_reference() -> None:
    text = page("library.md")
    assert [name for name in lrf.__all__ if name != "__version__" and f"- **`{name}`**" not in text] == []


def test_every_exit_code_of_an_error_is_in_the_reference() -> None:
    codes = {getattr(lrf, name).exit_code for name in lrf.__all__ if hasattr(getattr(lrf, name), "exit_code")}
    for code in codes:
        assert f"| {code} |" in page("cli.md")


def example(title: str) -> Mapping[str, Any]:
    """The JSON example under a heading of data.md."""
    section = page("data.md").split(f"{title}\n", 1)[1]
    found = re.search(r"```json\n(.*?)```", section, re.DOTALL)
    assert found
    row: Mapping[str, Any] = json.loads(found[1])
    return row


def test_every_field_of_a_row_is_in_the_reference() -> None:
    for name in FIELDS:
        assert f"| `{name}` |" in page("data.md").split("## The run directory")[0]


def test_the_example_of_a_row_is_a_sample(tmp_path: Path) -> None:
    from lrf.rows.data import sample_from_row

    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "letter.txt").write_text("A letter.")
    sample = sample_from_row(example("## Samples in"), folder=tmp_path, file="samples.jsonl", line=1)
    assert [c.id for c in sample.candidates] == ["a", "b"]


REWARD = Reward(
    sample_id="tram-1",
    candidate_id="a",
    reward=7.75,
    ratings={"helpfulness": 8.0},
    judgements={
        "helpfulness": Judgement(8.0, "analysis", "text", seen={"answer": 1.0}),
        "faithfulness": Judgement(
            10.0,
            reply_mode="statements",
            statements=(
                JudgedStatement(
                    "s",
                    "Fully supported",
                    1.0,
                    (Span("minutes", 0, 55),),
                    "analysis",
                    quotations=(Quotation("closed", Span("minutes", 12, 18), 1.0),),
                ),
            ),
            extra={"repeated_statements": 0},
        ),
        "completeness": Judgement(4.0, "analysis", "text", notes=(Note(Span("minutes", 0, 55), "note"),)),
        "logicality": Unscored("logicality", "no_rating", "the reply holds no rating"),
    },
)


def shape(value: Any) -> Any:
    """The keys of a value, all the way down."""
    if isinstance(value, Mapping):
        return {key: shape(inner) for key, inner in value.items()}
    return [shape(inner) for inner in value[:1]] if isinstance(value, list) else None


def test_the_example_of_a_reward_has_the_keys_of_a_reward() -> None:
    assert list(example("### `rewards.jsonl`")) == list(reward_row(REWARD))


def test_the_example_of_a_judgement_has_the_keys_of_a_judgement() -> None:
    assert shape(example("### `judgements.jsonl`")) == shape(judgement_row(REWARD))


def test_every_key_of_a_judgement_is_in_the_reference() -> None:
    source = (ROOT / "core/lrf/stages/score/rows.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'"(\w+)": \w+\.', source)) | set(re.findall(r'row\["(\w+)"\]', source))
    assert {"votes", "support", "sample_id"} <= keys
    assert {key for key in keys if f"`{key}`" not in page("data.md") and f'"{key}"' not in page("data.md")} == set()


def test_the_example_of_a_pair_has_the_keys_of_a_pair() -> None:
    a, b = Candidate("a", "yes"), Candidate("b", "no")
    sample = Sample("tram-1", "How?", (Document("0", "text"),), (a, b))
    row = pair_row(sample, PreferencePair(a, b, 7.75, 2.5), [], Template("<<context>>", ("context",)))
    assert list(example("### `pairs.jsonl`")) == list(row)


def test_every_file_of_a_run_directory_is_in_the_reference(tmp_path: Path) -> None:
    from lrf.stages.run_dir import RunDir

    run = RunDir(tmp_path)
    names = [n for n, member in vars(RunDir).items() if isinstance(member, property)]
    table = page("data.md").split("## The run directory")[1].split("###")[0]
    assert [n for n in names if f"`{getattr(run, n).name}" not in table] == []


REASON_AT = {"UnscorableError": 0, "ParseError": 0, "LeftOut": 0, "Unscored": 1, "left_out": 1, "Refused": 0}
"""Where each call in the source takes a reason."""


def reasons_in_source() -> list[tuple[str, ast.expr]]:
    """(file and line, expression) of every reason that lrf or a plugin of its own gives."""
    found = []
    for path in (p for folder in ("core", "plugins", "trainers") for p in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if isinstance(node, ast.Call) and name in REASON_AT and len(node.args) > REASON_AT[name]:
                found.append((f"{path.relative_to(ROOT)}:{node.lineno}", node.args[REASON_AT[name]]))
    return found


def test_a_reason_in_the_source_is_a_member_of_the_enum_and_never_a_bare_word() -> None:
    reasons = reasons_in_source()
    assert len(reasons) > 30
    assert [place for place, reason in reasons if isinstance(reason, ast.Constant | ast.JoinedStr)] == []


def test_every_reason_is_in_the_reference_and_given_somewhere() -> None:
    table = page("data.md")
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "core" / "lrf").rglob("*.py"))
    source += "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "plugins").rglob("*.py"))
    for reason in Reason:
        assert f"| `{reason}` | {reason.sentence} |" in table
        composed = f'Reason(f"{reason.partition("_")[0]}_{{what}}")'
        assert f"Reason.{reason.name}" in source or composed in source, f"nothing gives the reason {reason}"
