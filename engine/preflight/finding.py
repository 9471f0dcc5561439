"""What the preflight has found."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from engine.errors import CohortSyncError, ExitStatus
from engine.report.accounts import SCHEMA_VERSION


class FindingStatus(StrEnum):
    """The outcome of a step of the preflight."""

    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
    NOTE = "note"
    """Nothing is wrong yet, but something has to change before a run."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one step of the preflight; it contains no credential."""

    name: str
    """One of `STEPS`; `shared`: the server of a shared ceiling; `engine`:
    what compares exports, if that is not this machine; `export`: whether that of a
    configured cohort is there; or `notify`, `pings`, `metrics`, `report`, `after`, `marker`:
    whether a sync could tell, write and start them."""
    verdict: FindingStatus
    detail: str
    """One line, or one line for each problem of the configuration."""
    hint: str | None = None
    exit_status: ExitStatus = ExitStatus.ACCEPTED
    """The exit status of the command if this were the only finding."""
    workspace: str | None = None
    """The workspace that it is about; None if there is only one."""
    cohort: str | None = None
    """The key of the cohort that it is about."""


STEPS = ("configuration", "credentials", "state", "uids", "dns", "tcp", "tls", "key")
"""The steps of each workspace, in their order."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The findings of all steps of the preflight, in order."""

    findings: Sequence[Finding]

    @property
    def exit_status(self) -> ExitStatus:
        """The exit status of the first failed finding; 0 if none failed."""
        failed = (each for each in self.findings if each.verdict is FindingStatus.FAILED)
        return next((each.exit_status for each in failed), ExitStatus.ACCEPTED)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "status": "failed" if self.exit_status else "ok",
            "exit_status": int(self.exit_status),
            "findings": [
                {
                    "name": each.name,
                    "status": each.verdict.value,
                    "detail": each.detail,
                    "hint": each.hint,
                    "workspace": each.workspace,
                    "cohort": each.cohort,
                }
                for each in self.findings
            ],
        }


def failure(name: str, error: CohortSyncError, cohort: str | None = None) -> Finding:
    """Return the finding of a step that has failed."""
    detail = error.message if cohort is None else f"{cohort}: {error.message}"
    failed = FindingStatus.FAILED
    return Finding(name, failed, detail, error.hint, error.exit_status, cohort=cohort)
