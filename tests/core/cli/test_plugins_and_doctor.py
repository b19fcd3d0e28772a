"""`lrf plugins` and `lrf doctor`: what is installed, and what can't be used."""

from __future__ import annotations

import json
import subprocess
import sys

import lrf
from lrf.cli.main import invoke

PLUGIN = """
    from lrf.plugin.hookspecs import hookimpl
    from lrf.plugin.spec import ComponentSpec

    @hookimpl
    def lrf_register_judges():
        return [ComponentSpec("oracle", "parts:Judge", "parts:Settings", "A [red]judge[/red]\\x1b[2J of 全部.")]
"""


def test_plugins_shows_components_broken_ones_and_conflicts(distribute, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LRF_DISABLE_PLUGINS", "openai")
    distribute("acme-one", entry_points={"one": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-two", entry_points={"two": "acme_two"}, modules={"acme_two": PLUGIN})
    distribute("acme-bad", entry_points={"bad": "acme_bad"}, modules={"acme_bad": "import missing_library"})
    assert invoke(["plugins"]) == 0
    out = capsys.readouterr().out
    assert next(line.split()[:2] for line in out.splitlines() if "acme-one" in line) == ["judge", "oracle"]
    assert "A [red]judge[/red]\\x1b[2J of 全部." in out
    assert "\x1b" not in out
    assert "missing_library" in out
    assert "the judge 'oracle' is registered by acme-one 1.0 (plugin 'one') and acme-two 1.0 (plugin 'two')" in out
    assert "Disabled by LRF_DISABLE_PLUGINS: openai" in out


def test_plugins_as_json_carries_the_same(distribute, monkeypatch, capsys) -> None:
    monkeypatch.setenv("LRF_DISABLE_PLUGINS", "openai")
    distribute("acme-one", entry_points={"one": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-bad", entry_points={"bad": "acme_bad"}, modules={"acme_bad": "import missing_library"})
    assert invoke(["plugins", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    (oracle,) = [c for c in listed["components"] if c["name"] == "oracle"]
    assert (oracle["kind"], oracle["package"], oracle["version"], oracle["plugin"]) == (
        "judge",
        "acme-one",
        "1.0",
        "one",
    )
    assert "bad" in [b["plugin"] for b in listed["broken"]]
    assert listed["disabled"] == ["openai"]


def test_doctor_tells_what_is_installed_without_importing_it() -> None:
    code = (
        "import sys; from lrf.cli.main import invoke; invoke(['doctor', '--json']); "
        "print(sorted({'torch', 'transformers', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    report = json.loads(done.stdout)
    assert report["lrf"] == lrf.__version__
    extras = {e["extra"]: e for e in report["extras"]}
    torch = next(p for p in extras["lrf[transformers]"]["packages"] if p["name"] == "torch")
    assert torch["installed"] == report["accelerator"]["torch"]
    assert "transformers causal language model" in extras["lrf[transformers]"]["adds"]


def test_doctor_tells_of_a_missing_extra_of_a_plugin_and_how_to_add_it(distribute, capsys) -> None:
    plugin = PLUGIN.replace('.")]', '.", extra="gpu", distribution="acme-gpu")]')
    distribute(
        "acme-gpu",
        entry_points={"acme": "acme_gpu"},
        modules={"acme_gpu": plugin},
        metadata="Provides-Extra: gpu\nRequires-Dist: no-such-library[x]>=2 ; extra == 'gpu'\n",
    )
    assert invoke(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "missing no-such-library" in out
    assert "judge oracle" in out
    assert "To add acme-gpu[gpu]: pip install 'acme-gpu[gpu]'" in out


def test_doctor_still_speaks_when_two_plugins_share_a_name(distribute, capsys) -> None:
    distribute("acme-one", entry_points={"same": "acme_one"}, modules={"acme_one": PLUGIN})
    distribute("acme-two", entry_points={"same": "acme_two"}, modules={"acme_two": PLUGIN})
    assert invoke(["plugins"]) == 2
    assert "acme-one 1.0" in capsys.readouterr().err
    assert invoke(["doctor"]) == 0
    assert "two plugins are named 'same'" in capsys.readouterr().out
