"""The settings of a configuration as they may be shown to others: without text of the user's."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from engine.config.loading import TABLES, Config

MASK = "***"
"""What stands for text that somebody has written; it may be a secret, a uid or a path."""


def masked_settings(config: Config) -> dict[str, dict[str, Any]]:
    """Return each table of a workspace's configuration with its keys and values.

    Numbers, switches and texts that equal their defaults are shown; every other text is `MASK`. The
    workspace's id and partner are shown, as the API's vendor knows them.
    """
    found: dict[str, dict[str, Any]] = {
        "workspace": {
            "id": config.workspace.id,
            "endpoint": config.workspace.endpoint.label,
            "partner": config.workspace.partner,
        }
    }
    for name, (table, _) in TABLES.items():
        found.setdefault(table, {}).update(_masked(getattr(config, name)))
    return found


def _masked(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - any settings class
    shown = {}
    for field in fields(settings):
        default = field.default
        if default is MISSING and field.default_factory is not MISSING:
            default = field.default_factory()
        value = getattr(settings, field.name)
        shown[field.name] = value if value == default else _without_text(value)
    return shown


def _without_text(value: Any) -> Any:  # noqa: ANN401 - any value of a setting
    match value:
        case None | bool() | int() | float():
            return value
        case list() | tuple():
            return [_without_text(each) for each in value]
        case _ if is_dataclass(value):
            return _masked(value)
        case _:
            return MASK
