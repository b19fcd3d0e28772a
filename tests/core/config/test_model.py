"""What a right pipeline comes to: blocks, who works with whom, the resolved pipeline and its changes."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrf.config import changes, load_pipeline, parse_pipeline
from lrf.config.yaml_document import write_document
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog, load_catalog
from lrf.text.redaction import forget

PIPELINES = Path(__file__).parents[2] / "pipelines"

FULL = """
name: full-1.0
seed: 7
data: {type: rows, path: rows.jsonl, on_bad_row: skip}
judges:
  main: {type: oracle, model: "${MODEL}", headers: {Authorization: "Bearer ${KEY}"}}
  second: coin
embedders: {only: letters}
retrievers:
  main: finder
  named: {type: finder, embedder: only, size: 9}
dimensions:
  - charm
  - {type: charm, name: charm-2, judge: second}
  - {type: truth, retriever: named}
  - length
aggregator: {type: weighted, weights: {charm: 1, charm-2: 2}}
pairs: extremes
policy: {model: ./policy, prompt_template: "<<question>> $$5"}
train: {type: drill, size: 2}
python: {train: python-link}
max_unscored: 0.5
budget: {calls: 10}
"""
ENVIRON = {"MODEL": "delphi", "KEY": "sk-0123456789"}


@pytest.fixture
def full(toys: Catalog, tmp_path: Path):
    (tmp_path / "python-link").symlink_to(sys.executable)
    text = FULL.replace("python-link", "./python-link")
    return parse_pipeline(text, toys, folder=tmp_path, environ=ENVIRON)


def test_every_part_of_a_pipeline_is_there_with_its_settings(full, tmp_path: Path) -> None:
    assert (full.name, full.seed, full.on_bad_row, full.max_unscored) == ("full-1.0", 7, "skip", 0.5)
    assert full.data.kind == "source"
    assert full.data.settings.path == tmp_path / "rows.jsonl"
    assert full.judges["main"].settings.headers == {"Authorization": "Bearer sk-0123456789"}
    assert [d.name for d in full.dimensions] == ["charm", "charm-2", "truth", "length"]
    assert (full.pairs.type, full.train.type, full.train.settings.size) == ("extremes", "drill", 2)
    assert full.policy.model == str(tmp_path / "policy")
    assert full.policy.prompt_template == "<<question>> $5"
    assert (full.budget.calls, full.budget.tokens) == (10, None)


def test_who_needs_a_component_takes_the_named_one_else_main_else_the_only_one(full) -> None:
    assert [dict(d.needs) for d in full.dimensions] == [
        {"judge": "main"},
        {"judge": "second"},
        {"judge": "main", "retriever": "named"},
        {},
    ]
    assert full.retrievers["main"].needs == {"embedder": "only"}


def test_an_interpreter_stays_the_link_it_is(full, tmp_path: Path) -> None:
    assert full.python == {"train": str(tmp_path / "./python-link")}


def test_the_resolved_pipeline_has_the_defaults_and_no_secret(full) -> None:
    resolved = json.loads(json.dumps(full.resolved))
    assert resolved["judges"]["main"]["model"] == "${MODEL}"
    assert resolved["judges"]["main"]["headers"] == {"Authorization": "Bearer ${KEY}"}
    assert resolved["judges"]["main"]["temperature"] == 0.0
    assert resolved["judges"]["second"] == {"type": "coin", "size": 3}
    assert resolved["dimensions"][2] == {
        "type": "truth",
        "name": "truth",
        "rating": "auto",
        "repeat": 1,
        "judge": "main",
        "retriever": "named",
        "size": 3,
    }
    assert resolved["policy"]["prompt_template"] == "<<question>> $$5"
    assert "sk-0123456789" not in json.dumps(resolved)


def test_the_resolved_pipeline_is_itself_a_pipeline_and_means_the_same(full, toys: Catalog, tmp_path: Path) -> None:
    again = parse_pipeline(json.dumps(full.resolved), toys, folder=tmp_path, environ=ENVIRON)
    assert again.resolved == full.resolved
    assert again.judges == full.judges
    assert again.dimensions == full.dimensions
    assert again.policy == full.policy


def test_a_secret_that_a_component_copied_elsewhere_is_taken_out_again(toys: Catalog) -> None:
    text = "name: x\njudges: {main: {type: chatty, word: '${KEY}'}, other: '${KIND}'}"
    pipeline = parse_pipeline(text, toys, environ={**ENVIRON, "KIND": "coin"})
    assert pipeline.resolved["judges"]["main"] == {"type": "chatty", "word": "${KEY}", "copy_of_word": "${KEY}!"}
    assert pipeline.resolved["judges"]["other"] == {"type": "${KIND}", "size": 3}


def test_a_pipeline_may_leave_out_every_stage(toys: Catalog) -> None:
    bare = parse_pipeline("name: x\ndimensions:\npairs: null", toys)
    assert (bare.data, bare.dimensions, bare.aggregator, bare.pairs, bare.train) == (None, (), None, None, None)
    assert bare.on_bad_row == "stop"
    assert bare.policy.prompt_template == "<<context>>\n\n<<question>>"
    assert bare.policy.trust_remote_code is False
    assert bare.max_unscored == 0.05


def test_dimensions_without_an_aggregator_are_averaged(toys: Catalog) -> None:
    pipeline = parse_pipeline({"name": "x", "dimensions": ["length"]}, toys)
    assert pipeline.aggregator.type == "mean"


def test_relative_paths_start_at_the_folder_of_the_file(toys: Catalog, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "p.yaml").write_text("name: x\ndata: {type: rows, path: ../rows.jsonl}\n")
    monkeypatch.chdir(tmp_path)
    pipeline = load_pipeline("sub/p.yaml", toys)
    assert pipeline.file == Path("sub/p.yaml")
    assert pipeline.folder == tmp_path / "sub"
    assert pipeline.data.settings.path.resolve() == tmp_path / "rows.jsonl"


def test_a_component_that_is_not_used_is_not_imported(toys: Catalog) -> None:
    sys.modules.pop("toy_settings", None)
    parse_pipeline("name: x\npolicy: {model: m}", toys)
    assert "toy_settings" not in sys.modules


@pytest.mark.parametrize("name", ["score-http", "score-jsonl"])
def test_the_contract_pipelines_are_read_as_they_stand(name: str) -> None:
    pipeline = load_pipeline(PIPELINES / f"{name}.yaml", load_catalog(), {"LRF_SAMPLES": "samples.jsonl"})
    assert pipeline.name == name
    assert [d.name for d in pipeline.dimensions] == ["helpfulness", "logicality", "faithfulness", "completeness"]
    assert dict(pipeline.dimensions[2].needs) == {"judge": "main", "retriever": "main"}
    assert dict(pipeline.retrievers["main"].needs) == {"embedder": "main"}
    assert pipeline.judges["main"].settings.base_url == "http://127.0.0.1:8900/v1"
    assert pipeline.judges["main"].settings.max_concurrency == 64
    assert pipeline.pairs.settings.min_candidates == 5


def test_changes_name_the_path_and_both_values() -> None:
    old = {"seed": 0, "judges": {"main": {"model": "a", "n": 1}}, "pairs": {"type": "extremes"}}
    new = {"seed": 0, "judges": {"main": {"model": "b", "n": True}}, "train": {"type": "drill", "lr": 1e-6}}
    assert changes(old, new) == [
        "judges.main.model: 'a' → 'b'",
        "judges.main.n: 1 → true",
        "pairs: removed, was extremes",
        "train: added, drill",
    ]


def test_dimensions_are_compared_by_name_and_in_their_order() -> None:
    a, b, c = ({"type": "t", "name": n, "size": 1} for n in "abc")
    assert changes({"dimensions": [a, b]}, {"dimensions": [c, a, {**b, "size": 2}]}) == [
        "dimensions.b.size: 1 → 2",
        "dimensions.c: added, t",
    ]
    assert changes({"dimensions": [a, b]}, {"dimensions": [b, a]}) == ["dimensions: another order: b, a"]


RESOLVED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from("abc"), RESOLVED), st.dictionaries(st.sampled_from("abc"), RESOLVED))
def test_there_are_no_changes_exactly_where_nothing_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert (changes(old, new) == []) == (json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True))
    assert changes(old, old) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=st.text(min_size=8, alphabet=st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_secret_is_ever_in_the_resolved_pipeline(toys: Catalog, secret: str) -> None:
    block = {"type": "oracle", "model": "x ${KEY} y", "headers": {"k": "${KEY}"}}
    pipeline = parse_pipeline({"name": "n", "judges": {"main": block}}, toys, environ={"KEY": secret})
    assert pipeline.judges["main"].settings.model == f"x {secret} y"
    assert pipeline.resolved["judges"]["main"]["model"] == "x ${KEY} y"
    assert pipeline.resolved["judges"]["main"]["headers"] == {"k": "${KEY}"}


@given(
    folder=st.text(st.sampled_from("a${}X1"), min_size=1, max_size=8),
    name=st.sampled_from(["1e5", "0o7", "no", "null", "1_0", "n"]),
    model=st.text(st.sampled_from("a${}X1 "), max_size=8),
    secret=st.text(st.sampled_from("a${}X1"), min_size=8, max_size=9),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_resolved_pipeline_can_be_read(toys: Catalog, folder: str, name: str, model: str, secret: str) -> None:
    """A stage in a process of its own reads it: dollar signs of folders and names that look like numbers included."""
    forget()
    block = {"type": "oracle", "model": model.replace("$", "$$") + " ${KEY}$$"}
    values = {"name": name, "data": {"type": "rows", "path": "rows.jsonl"}, "judges": {"main": block}}
    pipeline = parse_pipeline(values, toys, folder=Path("/data") / folder, environ={"KEY": secret})
    assert pipeline.judges["main"].settings.model == f"{model} {secret}$"
    written = io.StringIO()
    write_document(pipeline.resolved, written)
    again = parse_pipeline(written.getvalue(), toys, folder="/elsewhere", environ={"KEY": secret})
    assert (again.name, again.judges, again.data, again.resolved) == (
        name, pipeline.judges, pipeline.data, pipeline.resolved
    )  # fmt: skip


def test_a_judge_needs_a_name_that_isnt_empty(toys: Catalog) -> None:
    with pytest.raises(ConfigError, match=r"judges\.: expected letters"):
        parse_pipeline({"name": "n", "judges": {"": "coin"}, "dimensions": ["charm"]}, toys)
