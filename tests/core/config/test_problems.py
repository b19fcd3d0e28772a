"""Every mistake in a pipeline gives one message: where, what is allowed, and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrf.config import load_pipeline, parse_pipeline
from lrf.config.parser import KEYS
from lrf.errors import ConfigError
from lrf.plugin.catalog import Catalog

BASE = "name: x\njudges: {main: {type: oracle, model: m}}\n"


def told(text: str, catalog: Catalog, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        parse_pipeline(text, catalog, environ=environ)
    return str(error.value).splitlines()


def test_five_mistakes_of_a_file_are_reported_together_with_file_and_line(toys: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text(
        "name: ../x\n"
        "retreivers: {main: grep}\n"
        "judges:\n"
        "  main:\n"
        "    type: oracle\n"
        "    model: m\n"
        "    temprature: 1\n"
        "  other: {type: orakle}\n"
        "dimensions:\n"
        "  - type: charm\n"
        "    judge: mian\n"
    )
    with pytest.raises(ConfigError) as error:
        load_pipeline(file, toys)
    assert error.value.exit_code == 2
    lines = [line.removeprefix(str(file)) for line in str(error.value).splitlines()]
    assert lines == [
        ":1: name: expected letters, digits, '.', '_' and '-', beginning with a letter, a digit or '_', at most 100",
        f":2: retreivers: unknown key; allowed: {', '.join(KEYS)}; did you mean retrievers?",
        ":7: judges.main.temprature: unknown key; allowed: type, requests_per_minute, tokens_per_minute, model, "
        "temperature, style, limits, headers, stop; did you mean temperature?",
        ":8: judges.other.type: unknown judge 'orakle'; available: chatty, coin, fussy, oracle; did you mean oracle?; "
        f"disabled by LRF_DISABLE_PLUGINS: {', '.join(toys.disabled)}",
        ":11: dimensions[0].judge: no judge is named 'mian'; judges: main, other; did you mean main?",
    ]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("temperature: hot", "judges.o.temperature: expected a number, at least 0 and at most 2; got 'hot'"),
        ("temperature: 3", "judges.o.temperature: expected at least 0 and at most 2; got 3"),
        ("temperature: .nan", "judges.o.temperature: expected a finite number, at least 0 and at most 2; got nan"),
        ("temperature: [1]", "judges.o.temperature: expected a number, at least 0 and at most 2; got a list"),
        ("style: poetry", "judges.o.style: expected 'verse' or 'prose'; got 'poetry'"),
        ("style: vers", "judges.o.style: expected 'verse' or 'prose'; got 'vers'; did you mean verse?"),
        ("limits: {cals: 1}", "judges.o.limits.cals: unknown key; allowed: calls; did you mean calls?"),
        ("limits: {calls: 99}", "judges.o.limits.calls: expected at least 1 and at most 9; got 99"),
        ("limits: 3", "judges.o.limits: expected a block of keys; got 3"),
        ("headers: {a: 1}", "judges.o.headers.a: expected text; got 1 (put it in quotes)"),
        ("stop: {}", "judges.o.stop: expected a list or a whole number; got a block of keys"),
        ("stop: [1]", "judges.o.stop[0]: expected text; got 1 (put it in quotes)"),
    ],
)
def test_a_wrong_value_is_reported_with_what_is_allowed(toys: Catalog, block: str, message: str) -> None:
    assert told(f"name: x\njudges: {{o: {{type: oracle, model: m, {block}}}}}", toys) == [f"2: {message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]", "expected a pipeline: a block of keys, beginning with name"),
        ("seed: 1", "name: missing; it must be given: Name of the pipeline"),
        ("name: 3", "1: name: expected text; got 3 (put it in quotes)"),
        ("name: ..", "1: name: expected letters"),
        ("name: -x", "1: name: expected letters"),
        ("name: x\nseed: -1", "2: seed: expected at least 0 and at most 4294967295; got -1"),
        ("name: x\nmax_unscored: 1.5", "2: max_unscored: expected at least 0 and at most 1; got 1.5"),
        ("name: x\nbudget: {calls: 0}", "2: budget.calls: expected at least 1; got 0"),
        (
            "name: x\npolicy: {modle: x}",
            "2: policy.modle: unknown key; allowed: model, prompt_template, trust_remote_code;",
        ),
        (
            "name: x\npolicy: {prompt_template: <<answer>>}",
            "2: policy.prompt_template: the template: unknown field <<answer>>; allowed: <<context>>, <<question>>",
        ),
        (
            "name: x\npython: {trian: python}",
            "2: python.trian: unknown key; allowed: sample, score, pairs, train; did you mean train?",
        ),
        ("name: x\npython: {train: ./no/python}", "2: python.train: no program"),
        ("name: x\njudges: [oracle]", "2: judges: expected a block that names each judge, such as `main:`; got a list"),
        ("name: x\njudges: {main: 3}", "2: judges.main: expected a type, or a block with a `type:`; got 3"),
        ("name: x\njudges: {a/b: coin}", "2: judges.a/b: expected letters"),
        (
            "name: x\njudges: {main: {model: m}}",
            "2: judges.main.type: missing; give the judge's type, one of: chatty, coin",
        ),
        ("name: x\njudges: {main: oracle}", "2: judges.main.model: missing; it must be given: Which oracle."),
        (
            "name: x\njudges: {main: {type: fussy, word: w}}",
            "2: judges.main: checking the settings failed: ZeroDivisionError",
        ),
        ("name: x\ndimensions: charm", "2: dimensions: expected a list of dimensions; got 'charm'"),
        ("name: x\ndimensions: [charm]", "2: dimensions[0].judge: charm needs a judge; add one under `judges:`"),
        (
            "name: x\njudges: {a: coin, b: coin}\ndimensions: [charm]",
            "3: dimensions[0].judge: there are several judges; name one: `judge: a`; judges: a, b",
        ),
        (
            "name: x\ndimensions: [length, length]",
            "2: dimensions[1]: another dimension is named 'length' too; give one",
        ),
        (
            "name: x\ndimensions: [{type: length, judge: a}]",
            "2: dimensions[0].judge: unknown key; allowed: type, name, size",
        ),
        ("name: x\nretrievers: {main: finder}", "2: retrievers.main.embedder: finder needs an embedder; add one under"),
        ("name: x\ndata: {type: rows, path: p, on_bad_row: stopp}", "2: data.on_bad_row: expected 'stop' or 'skip'"),
        (
            "name: x\ndimensions: [length]\naggregator: {type: weighted, weights: {lenght: 1}}",
            "3: aggregator.weights: no dimension is named lenght",
        ),
    ],
)
def test_each_part_of_a_pipeline_tells_its_mistakes(toys: Catalog, text: str, message: str) -> None:
    lines = told(text, toys)
    assert len(lines) == 1
    assert lines[0].startswith(message)


def test_a_mistake_of_a_value_hides_no_other(toys: Catalog) -> None:
    assert len(told("name: x\nname: a b", toys)) == 1
    assert len(told("name: a b\nname: x", toys)) == 2


def test_a_missing_variable_is_reported_once_and_not_as_a_wrong_value_too(toys: Catalog) -> None:
    lines = told("name: x\njudges: {main: {type: oracle, model: m, temperature: '${HEAT}'}}", toys)
    assert len(lines) == 1
    assert lines[0].startswith("2: judges.main.temperature: the environment has no variable HEAT")


@pytest.mark.parametrize(
    "block",
    [
        "{type: oracle, model: m, temperature: '${KEY}'}",
        "{type: oracle, model: m, style: 'x${KEY}'}",
        "{type: oracle, model: m, limits: '${KEY}'}",
        "{type: oracle, model: m, headers: [Bearer '${KEY}']}",
        "{type: oracle, model: m, limits: {calls: '${KEY}'}}",
        "{type: oracle, model: m, limits: ['${KEY}']}",
        "{type: '${KEY}'}",
        "'${KEY}'",
        "{type: chatty, word: 'bad ${KEY}'}",
        "['${KEY}']",
    ],
)
def test_what_came_from_the_environment_is_never_told(toys: Catalog, block: str) -> None:
    text = "\n".join(told(f"name: x\njudges: {{main: {block}}}", toys, KEY="sk-0123456789"))
    assert "sk-0123456789" not in text


def test_a_component_of_a_missing_library_names_the_extra(toys: Catalog, distribute) -> None:
    from lrf.plugin.loader import load_plugins

    plugin = """
        from lrf.plugin.hookspecs import hookimpl
        from lrf.plugin.spec import ComponentSpec

        @hookimpl
        def lrf_register_judges():
            return [ComponentSpec("big", "big_parts:J", "big_parts:S", "Big.", extra="gpu", distribution="big")]
    """
    distribute(
        "big", entry_points={"big": "big_plugin"}, modules={"big_plugin": plugin, "big_parts": "import no_gpu_here"}
    )
    catalog = Catalog(load_plugins({"LRF_DISABLE_PLUGINS": ",".join(toys.disabled)}))
    (line,) = told("name: x\njudges: {main: big}", catalog)
    assert line.startswith("2: judges.main: big can't be used here: No module named 'no_gpu_here'")
    assert line.endswith("pip install 'big[gpu]'")
