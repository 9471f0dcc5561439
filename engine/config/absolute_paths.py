"""Makes the paths in settings absolute: those in a file are relative to its folder."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from engine.config.config_file import ConfigFile
from engine.config.variables import Keys
from engine.notices.secret_texts import FILE_PREFIX
from engine.notices.settings import MetricsSettings, NotifySettings, PingSettings
from engine.page.settings import ReportSettings
from engine.source.urls import is_url
from engine.storage.settings import PlanningSettings


def with_absolute_paths(file: ConfigFile, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the settings, by their field of `Config`, that hold paths.

    A path that cannot be is a problem of `file`.
    """
    return {
        "planning": _with_plan_folders(file, settings["planning"]),
        "report": _with_page(file, settings["report"]),
        "metrics": _with_metric_files(file, settings["metrics"]),
        "notify": _with_notify_files(file, settings["notify"]),
        "pings": _with_ping_file(file, settings["pings"]),
    }


def _with_plan_folders(file: ConfigFile, table: PlanningSettings) -> PlanningSettings:
    """Return the settings with absolute `spill_dir` and `lake`, unless that is a URL."""
    spill = file.path_in(("plan", "spill_dir"), table.spill_dir)
    lake: str | None = table.lake
    if lake is not None and not is_url(lake):
        path = file.path_in(("plan", "lake"), lake)
        lake = str(path) if path else None
    return replace(table, spill_dir=str(spill) if spill else None, lake=lake)


def _with_page(file: ConfigFile, table: ReportSettings) -> ReportSettings:
    """Return the settings with an absolute path of the page."""
    page = file.path_in(("report", "html"), table.html)
    return replace(table, html=str(page) if page else None)


def _with_metric_files(file: ConfigFile, table: MetricsSettings) -> MetricsSettings:
    """Return the settings with absolute paths."""
    textfile = file.path_in(("metrics", "textfile"), table.textfile)
    return replace(
        table,
        textfile=str(textfile) if textfile else None,
        push_url=_url_in(file, ("metrics", "push_url"), table.push_url),
    )


def _with_notify_files(file: ConfigFile, table: NotifySettings) -> NotifySettings:
    """Return the settings with absolute paths."""

    def urls(keys: Keys, given: Iterable[str]) -> tuple[str, ...]:
        found = (_url_in(file, keys, each) for each in given)
        return tuple(each for each in found if each is not None)

    return replace(
        table,
        urls=urls(("notify", "urls"), table.urls),
        owners={
            name: urls(("notify", "owners", name), each) for name, each in table.owners.items()
        },
    )


def _with_ping_file(file: ConfigFile, table: PingSettings) -> PingSettings:
    """Return the settings with an absolute path."""
    return replace(table, url=_url_in(file, ("pings", "url"), table.url))


def _url_in(file: ConfigFile, keys: Keys, text: str | None) -> str | None:
    """Return a URL, or the absolute path of the file that holds it; None after a problem."""
    if text is None or not text.startswith(FILE_PREFIX):
        return text
    path = file.path_in(keys, text.removeprefix(FILE_PREFIX))
    return None if path is None else f"{FILE_PREFIX}{path}"
