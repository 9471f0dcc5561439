"""What all methods of `Engine` share: its configuration, and a session for each workspace."""

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.config.lookup import Configuration
from engine.model.cohort import Cohort

if TYPE_CHECKING:
    from engine.config.loading import Config, Project
    from engine.pacing.settings import PacingSettings
    from engine.runs.arguments import Exports, Note, Observers, PlanObservers, Reading
    from engine.runs.requests import CohortExport
    from engine.runs.session import WorkspaceSession


class OpenEngine:
    """A configuration that is read when it is needed, and a session for each workspace in use."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._sessions: dict[str, WorkspaceSession] = {}
        self._is_closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        workspace: str | None = None,
        endpoint: str | None = None,
        state: str | os.PathLike[str] | None = None,
        need_credentials: bool = True,
        lazy: bool = False,
        environ: Mapping[str, str] = os.environ,
    ) -> AsyncIterator[Self]:
        """Read the configuration, and yield an engine that uses it.

        `path` is a configuration file, by default COHORTSYNC_CONFIG or ./config.toml. `workspace`
        names one of its workspaces, if there are several; `endpoint` and `state` override its
        values. Without `need_credentials` the API key is not read, for an engine that plans and
        reads but sends nothing.

        Raises `ConfigError` with a line for every problem. A `lazy` engine raises it when the
        configuration is first needed: `runs`, `show` and `rejects` need only the state folder, and
        `check` returns the problems of the rest.

        At the end of the block the runs that are still under way are stopped, as by a switch, and
        their ends are awaited; a later run raises `UsageError`.
        """
        configuration = Configuration(
            None if path is None else Path(path),
            workspace=workspace,
            endpoint=endpoint,
            state=None if state is None else Path(state),
            need_credentials=need_credentials,
            environ=environ,
        )
        engine = cls(configuration)
        if not lazy:
            _ = engine.config if configuration.is_one_workspace_meant else engine.project
        try:
            yield engine
        finally:
            engine._is_closed = True
            async with AsyncExitStack() as open_sessions:
                for session in engine._sessions.values():  # The last one is left first.
                    open_sessions.push_async_exit(session)

    @property
    def config(self) -> "Config":
        """The configuration of the engine's workspace; raises `ConfigError`."""
        return self._configuration.config()

    @property
    def project(self) -> "Project":
        """All workspaces, without their API keys, and all cohorts; raises `ConfigError`."""
        return self._configuration.project

    def config_of(self, cohort: str | None) -> "Config":
        """Return the configuration of a configured cohort's workspace, or that of the engine's.

        Raises `UsageError` for an unknown key, and `ConfigError`.
        """
        table = None if cohort is None else self._configuration.cohort(cohort)
        return self._configuration.config(table)

    @property
    def notes(self) -> Sequence[str]:
        """Warnings about the configuration: one sentence for each doubtful but valid setting."""
        return self.config.notes

    @property
    def pacing(self) -> "PacingSettings":
        """The ceiling: the maximum number of requests in any window, and its length in seconds."""
        return self.config.pacing

    def _session(self, config: "Config") -> "WorkspaceSession":
        """Return the session that all runs in a workspace share: a ledger, a pacer, a pool."""
        from engine.runs.session import WorkspaceSession, closed_error

        if self._is_closed:
            raise closed_error()
        session = self._sessions.get(config.name)
        if session is None:
            beside = next(
                (each for each in self._sessions.values() if each.folder == config.place.folder),
                None,
            )
            session = self._sessions[config.name] = WorkspaceSession(config, beside=beside)
        elif session.config.workspace.api_key is None:
            session.renew(config)
        return session

    @asynccontextmanager
    async def _export(
        self,
        exports: "Exports | None",
        cohort: Cohort | str,
        reading: "Reading",
        observers: "Observers | PlanObservers",
        *,
        exclude: "Exports",
        exclude_column: str | None,
    ) -> "AsyncIterator[CohortExport]":
        """Yield a cohort with its export; a configured cohort is named by its key."""
        from engine.runs.context import run_observers
        from engine.runs.queries import Queries
        from engine.runs.requests import CohortExport

        table = None
        if isinstance(cohort, str):
            table = self._configuration.cohort(cohort)
            cohort = table.cohort
        session = self._session(self._configuration.config(table))
        async with Queries(session) as queries:
            yield CohortExport(
                *(session, cohort, table, exports, reading),
                exclude,
                exclude_column,
                run_observers(observers),
                queries,
            )

    def _note_lacking_key(self, config: "Config", note: "Note") -> None:
        """Pass `note` a remark if there is no API key, which sending a plan will need."""
        problem = config.key_problem(self._configuration.environ)
        if problem is not None:
            note(problem, label="note")
