"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Configuration file; else COHORTSYNC_CONFIG, else ./config.toml."
    ),
]
EndpointOption = Annotated[
    str | None, typer.Option(help="scheme://host:port, instead of the configured one.")
]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="State folder, instead of the configured one.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead of text.")
]
