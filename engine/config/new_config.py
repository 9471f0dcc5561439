"""Writes a first config.toml, with the schema that an editor checks it by."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from engine.config.files import path_from
from engine.config.schema import schema_text
from engine.errors import UsageError
from engine.model.endpoint import Endpoint
from engine.model.workspace import ApiKey, is_workspace_id

SCHEMA_NAME = "config.schema.json"
"""The schema lies beside the configuration: editors resolve a relative path, without a network."""


@dataclass(frozen=True, slots=True)
class NewConfig:
    """What a first configuration needs to know; raises `UsageError` for an invalid value."""

    workspace_id: str
    data_center: str
    key_file: str = "moengage.key"
    """Where the API key is, relative to the configuration's folder."""

    def __post_init__(self) -> None:
        for flag, (read, value) in {
            "--workspace-id": (self.read_workspace_id, self.workspace_id),
            "--data-center": (self.read_data_center, self.data_center),
            "--key-file": (self.read_key_file, self.key_file),
        }.items():
            try:
                read(value)
            except ValueError as error:
                raise UsageError(f"{flag} {error}") from None

    @staticmethod
    def read_workspace_id(text: str) -> str:
        """Return a workspace id; raises `ValueError` with a clause, as the methods below do."""
        if not is_workspace_id(text):
            raise ValueError("should be printable ASCII without blanks and colons")
        return text

    @staticmethod
    def read_data_center(text: str) -> str:
        """Return the number of a data center."""
        Endpoint.of_data_center(text)
        return text

    @staticmethod
    def read_key_file(text: str) -> str:
        """Return the path of a key file."""
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("is not valid UTF-8") from None
        path_from(Path(), text)
        return text

    @staticmethod
    def read_key(text: str) -> str:
        """Return an API key."""
        return ApiKey.parse(text, "prompt").reveal()

    @staticmethod
    def refuse_unusable(path: Path) -> None:
        """Raise `UsageError` if there is a file at `path`, or no folder for it."""
        if path.exists() or path.is_symlink():
            raise UsageError(
                f"{path} exists already, and is not overwritten",
                hint="name a new file: `cohortsync init FILE`",
            )
        if not path.absolute().parent.is_dir():
            raise UsageError(
                f"{path} cannot be written: there is no folder {path.parent}",
                hint="make the folder first",
            )

    def write(self, path: Path, key: str = "") -> list[Path]:
        """Write the key if it is not empty, then a first config.toml, and beside it the schema.

        Only the owner can read the key's file. Return what was written; no file is overwritten.
        Raises `UsageError` if `key` is no key, or if a file exists or can't be written.
        """
        self.refuse_unusable(path)
        try:
            content = f"{self.read_key(key)}\n" if key else ""
        except ValueError as error:
            raise UsageError(f"the API key {error}") from None
        files = [(path, self.text, 0o666)]
        if not path.with_name(SCHEMA_NAME).exists():
            files.append((path.with_name(SCHEMA_NAME), schema_text(), 0o666))
        if content:
            files.insert(0, (self.key_path(path), content, 0o600))
        for file, text, mode in files:
            _create(file, text, mode)
        return [file for file, *_ in files]

    def key_path(self, path: Path) -> Path:
        """Return the path of the key file of a configuration at `path`."""
        return path_from(path.absolute().parent, self.key_file)

    @property
    def text(self) -> str:
        """The content of config.toml."""
        return _TEXT.format(
            schema=SCHEMA_NAME,
            workspace_id=_quoted(self.workspace_id),
            data_center=_quoted(self.data_center),
            key_file=_quoted(self.key_file),
        )


def _create(path: Path, text: str, mode: int) -> None:
    """Write a new file; raises `UsageError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        hint = "check that its folder is there and may be written"
        raise UsageError(f"{path} cannot be written: {error.strerror}", hint=hint) from None


def _quoted(text: str) -> str:
    """Return a TOML string; a dollar is doubled, since `${NAME}` is a variable."""
    return json.dumps(text.replace("$", "$$"), ensure_ascii=False).replace("\x7f", r"\u007f")


_TEXT = """\
#:schema ./{schema}

# The configuration of cohortsync. Only what differs from the defaults has to be here;
# docs/configuration.md describes every key. `cohortsync check` tells whether it is right.
#
# Paths are relative to this file's folder. In a text, `${{NAME}}` is the value of an environment
# variable, `${{NAME:-default}}` has a default, and `$$` is a dollar.

[workspace]
# From the MoEngage dashboard: Settings > Account > APIs.
id = {workspace_id}

# The number in the dashboard's address.
data_center = {data_center}

# A file that holds the Data API key alone. Keep it out of version control, with mode 0600.
api_key_file = {key_file}

[limits]
# The API's ceiling for the whole workspace. Lower it if other programs write to it, too.
requests = 300
per_seconds = 60.0

[guards]
# What stops a mirror before its first request: more removals or additions than this share of the
# cohort's members, or than a whole number.
max_removals = 0.1
max_additions = 0.5

[state]
# Where the ledger lives, on a local disk.
dir = "state"

# A cohort. Its table's name is its name for commands, and its id in the API unless `id` is set.
[cohorts.example]
name = "Example"

# Files, globs, folders or URLs: one, or a list.
source = "exports/example-*.csv"
column = "user_id"

# "mirror" makes the cohort equal to the export; "add" and "remove" push the export's uids.
mode = "mirror"

# Delete this line when the values above are right.
enabled = false

# Guards that differ from [guards], for this cohort.
# [cohorts.example.guards]
# max_removals = 0.2

# Uids that are always left out.
# [cohorts.example.exclude]
# source = "exports/suppressed.txt"
"""
