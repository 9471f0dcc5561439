"""Cohorts in a configuration, synced by the command line."""

import json
from typing import Any

from clean_room import API_KEY, WORKSPACE
from nightly import CommandLine, Ended


def cohort(source: str | list[str], **further: object) -> dict[str, object]:
    return {"name": str(source).replace("*", ""), "source": source, **further}


def configure(
    cli: CommandLine, cohorts: dict[str, dict[str, object]], **tables: dict[str, object]
) -> None:
    cli.configure(**tables, **{f"cohorts.{key}": table for key, table in cohorts.items()})


def sync(cli: CommandLine, *arguments: str) -> Ended:
    return cli.run("sync", *arguments, "--json")


def by_key(ended: Ended) -> dict[str, dict[str, Any]]:
    return {each["cohort"]: each for each in ended.document["cohorts"]}


def statuses(ended: Ended) -> dict[str, tuple[str, int]]:
    return {key: (each["status"], each["exit_status"]) for key, each in by_key(ended).items()}


def two_workspaces(cli: CommandLine) -> None:
    cli.write("a.txt", 200)
    cli.write("b.txt", 200)
    common = {"endpoint": cli.url, "id": WORKSPACE}
    tables = {
        "limits": {"requests": 300, "per_seconds": 2.0, "payload_bytes": 2000},
        "workspaces.eu": {**common, "partner": "eu", "api_key_file": "eu.key"},
        "workspaces.us": {**common, "partner": "us", "api_key_file": "us.key"},
        "cohorts.a": cohort("a.txt", workspace="eu"),
        "cohorts.b": cohort("b.txt", workspace="us"),
    }
    lines = []
    for name, table in tables.items():
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    (cli.folder / "config.toml").write_text("\n".join(lines))
    (cli.folder / "eu.key").write_text(API_KEY)
    (cli.folder / "eu.key").chmod(0o600)
