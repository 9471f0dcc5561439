"""Finds what a command names in the configuration: a cohort by its key, and its workspace."""

import os
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from engine.config.cohort_settings import CohortSettings
from engine.config.files import find_file
from engine.config.loading import Config, Project, load, load_project
from engine.config.state_location import locate_state
from engine.errors import UsageError

HINT_NO_COHORT = (
    "each cohort is a table [cohorts.KEY] in config.toml; docs/configuration.md says more"
)
_LISTED = 10


class Configuration:
    """A configuration that is read as far as it is needed, and each part of it once."""

    def __init__(  # noqa: PLR0913 - one parameter a flag
        self,
        path: Path | None = None,
        *,
        workspace: str | None = None,
        endpoint: str | None = None,
        state: Path | None = None,
        need_credentials: bool = True,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """Take the arguments of `load`."""
        self.path = path
        self.workspace = workspace
        self.endpoint = endpoint
        self.state = state
        self.environ = environ
        self._need_credentials = need_credentials
        self._configs: dict[str | None, Config] = {}

    @cached_property
    def project(self) -> Project:
        """All workspaces, without their API keys, and all cohorts; raises `ConfigError`."""
        return load_project(
            self.path,
            endpoint=self.endpoint,
            state=self.state,
            need_credentials=False,
            environ=self.environ,
        )

    @property
    def has_file(self) -> bool:
        """Whether there is a configuration file; raises `ConfigError` if a named one is missing."""
        return find_file(self.path, self.environ)[0] is not None

    @property
    def is_one_workspace_meant(self) -> bool:
        """Whether a workspace is named, or there is only one; raises `ConfigError`."""
        return self.workspace is not None or len(self.project.workspaces) == 1

    def config(self, cohort: CohortSettings | None = None) -> Config:
        """Return the settings of a cohort's workspace, or of the one that is meant.

        Raises `ConfigError`, and `UsageError` if another workspace than the cohort's is named.
        """
        name = self.workspace
        if cohort is not None:
            if name not in {None, cohort.workspace}:
                raise UsageError(
                    f"cohort {cohort.key!r} is of workspace {cohort.workspace}, not {name}",
                    hint="leave --workspace out: the configuration names the cohort's",
                )
            name = cohort.workspace
        if name not in self._configs:
            found = load(
                self.path,
                workspace=name,
                endpoint=self.endpoint,
                state=self.state,
                need_credentials=self._need_credentials,
                environ=self.environ,
            )
            self._configs[name] = self._configs[found.name] = found
        return self._configs[name]

    def cohort(self, key: str) -> CohortSettings:
        """Return the cohort with a key; raises `ConfigError`, and as `cohort_named` does."""
        return cohort_named(key, self.project.cohorts)

    def known(
        self, cohort_id: str | None, key: str | None
    ) -> tuple[Config, str, CohortSettings | None]:
        """Return the workspace, the id and the table of a cohort, named by its id or its key.

        Raises `UsageError` if it is named by both or neither, and as `cohort` and `config` do.
        """
        if (cohort_id is None) == (key is None):
            raise UsageError("a cohort is named by either --cohort or --cohort-id")
        if key is None:
            return self.config(), cohort_id or "", None
        table = self.cohort(key)
        return self.config(table), table.id, table

    @cached_property
    def state_folder(self) -> Path:
        """The state folder; the rest of the configuration is not read."""
        return locate_state(self.path, state=self.state, environ=self.environ)


def cohort_named(key: str, cohorts: Mapping[str, CohortSettings]) -> CohortSettings:
    """Return the cohort with a key; raises `UsageError` with the nearest one if there is none."""
    if key not in cohorts:
        raise UsageError(f"no cohort {key!r} is configured", hint=hint_on(key, cohorts))
    return cohorts[key]


def hint_on(name: str, known: Collection[str]) -> str:
    """Return a hint on an unknown name: the most similar one, and some of those there are."""
    if not known:
        return HINT_NO_COHORT
    near = get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]
    listed = ", ".join(sorted(known)[:_LISTED])
    more = "" if len(known) <= _LISTED else f" and {len(known) - _LISTED} more"
    return f"did you mean {near!r}? There are: {listed}{more}"
