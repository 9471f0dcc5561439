"""`cohortsync support`: what the API's vendor needs to look into a run."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.cli.options import JsonOption, StateOptions, flat
from engine.cli.runs import RunArgument
from engine.cli.streams import print_json, print_lines, printing
from engine.model.quantity import counted

if TYPE_CHECKING:
    from engine import SupportReport


@flat
def support(*, run: RunArgument, where: StateOptions, as_json: JsonOption = False) -> None:
    """Print what the vendor's support needs about a run, to be sent to them as it is.

    Request ids by error, times, counts, versions and settings; no uid, no credential, and no name
    of a file.
    """
    found = where.call(lambda engine: engine.support(run))
    with printing():
        if as_json:
            print_json(found.to_dict())
        else:
            print_lines(_lines(found), indent=4)


def _lines(report: "SupportReport") -> Iterator[str]:
    accounts = report.accounts
    ended = "" if accounts.exit_status is None else f", exit status {accounts.exit_status}"
    yield f"run {accounts.run}: {accounts.status}{ended}"
    yield f"{accounts.target} · workspace {accounts.workspace} · partner {accounts.partner}"
    yield f"cohort {accounts.cohort_id} ({accounts.cohort_name}) · {accounts.action}"
    yield f"{accounts.started_at} to {accounts.finished_at or 'a time that is not recorded'}"
    requests, uids = accounts.requests, accounts.uids
    yield (
        f"requests: {requests.sent:,} sent, {requests.accepted:,} accepted, "
        f"{requests.throttled:,} throttled, {requests.retried:,} retried, {requests.split:,} split"
    )
    yield (
        f"uids: {uids.planned:,} planned, {uids.accepted:,} accepted, {uids.rejected:,} rejected, "
        f"{uids.unconfirmed:,} unconfirmed, {uids.pending:,} pending"
    )
    for each in report.answers:
        yield ""
        answer = each.reason or each.http_status or "no answer is recorded"
        outcome = "without an outcome" if each.outcome == "none" else each.outcome
        yield f"{counted(each.requests, 'request')} {outcome}: {answer}"
        if each.first_sent_at:
            yield f"    sent {each.first_sent_at} to {each.last_sent_at}"
        if each.request_ids:
            yield f"    request ids: {' '.join(each.request_ids)}"
    yield ""
    yield "versions: " + ", ".join(f"{name} {found}" for name, found in report.versions.items())
    if report.settings is None:
        yield "settings: the configuration cannot be read, or has no such workspace"
    for table, settings in (report.settings or {}).items():
        given = {key: value for key, value in settings.items() if value or value == 0}
        yield f"[{table}] " + ", ".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in given.items()
        )
