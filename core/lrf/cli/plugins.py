"""``lrf plugins``: the installed components, and plugins that can't be used."""

from __future__ import annotations

import click

from lrf.cli import common_options
from lrf.cli.output import clean, show_json, table
from lrf.plugin.catalog import Catalog, load_catalog


@click.command()
@common_options.as_json
def plugins(as_json: bool) -> None:
    """List the installed components, and broken plugins with the reason.

    LRF_DISABLE_PLUGINS=NAME,NAME disables plugins; * disables all.
    """
    catalog = load_catalog()
    if as_json:
        show_json(_as_json(catalog))
        return
    if catalog.registrations:
        rows = [[r.kind, r.spec.name, r.spec.summary, str(r.package)] for r in catalog.registrations]
        table(["kind", "name", "summary", "package"], rows)
    else:
        click.echo("No components are installed.")
    if catalog.broken:
        click.echo("\nBroken plugins (only pipelines that need them fail):")
        table(["plugin", "package", "reason"], [[b.name, b.distribution, b.reason] for b in catalog.broken])
    if catalog.conflicts:
        click.echo("\nConflicting names (can't be used until one of the plugins is uninstalled or disabled):")
        for conflict in catalog.conflicts:
            click.echo(f"  {clean(str(conflict))}")
    if catalog.disabled:
        click.echo(f"\nDisabled by LRF_DISABLE_PLUGINS: {clean(', '.join(catalog.disabled))}")


def _as_json(catalog: Catalog) -> dict[str, object]:
    return {
        "components": [
            {
                "kind": r.kind,
                "name": r.spec.name,
                "summary": r.spec.summary,
                "package": r.package.name,
                "version": r.package.version,
                "plugin": r.plugin,
                "extra": r.spec.extra,
            }
            for r in catalog.registrations
        ],
        "broken": [{"plugin": b.name, "package": b.distribution, "reason": b.reason} for b in catalog.broken],
        "conflicts": [
            {"kind": c.kind, "name": c.name, "packages": [str(r.package) for r in c.registrations]}
            for c in catalog.conflicts
        ],
        "disabled": list(catalog.disabled),
    }
