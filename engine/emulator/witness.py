"""The emulator's own report, under `/_emulator/`."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import orjson
from aiohttp import web

from engine.emulator.application import Emulator

_MEMBERS_A_WRITE: Final = 10_000


class Witness:
    """Reports on one emulator; its requests do not count as requests to the API."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; a method that is not listed gets a 405."""
        listed = [
            web.get("/_emulator/health", self.health),
            web.get("/_emulator/report", self.report),
            web.post("/_emulator/reset", self.reset),
            web.get("/_emulator/cohorts/{cohort_id}/members", self.members),
        ]
        return listed + [web.route("*", each.path, _refuse_method(each.method)) for each in listed]

    async def health(self, request: web.Request) -> web.Response:
        """Answer that this is the emulator, not the API."""
        del request
        return _json({"emulator": "cohortsync"})

    async def report(self, request: web.Request) -> web.Response:
        """Return the report."""
        del request
        return _json(self._emulator.report())

    async def reset(self, request: web.Request) -> web.Response:
        """Delete all state of the emulator."""
        del request
        self._emulator.reset()
        return _json({"emulator": "cohortsync"})

    async def members(self, request: web.Request) -> web.StreamResponse:
        """Stream a cohort's members, one JSON string per line, unordered.

        `?workspace=` and `?partner=` select between several cohorts with the id. Returns 404 if
        none matches, 409 if more than one matches or the emulator stores no members.
        """
        emulator = self._emulator
        found = emulator.cohorts.find(
            request.match_info["cohort_id"],
            workspace=request.query.get("workspace"),
            partner=request.query.get("partner"),
        )
        if not found:
            return _json({"error": "No cohort has this id."}, status=404)
        if len(found) > 1:
            choices = [key._asdict() for key, _ in found]
            error = "Several cohorts have this id: choose by ?workspace= and ?partner=."
            return _json({"error": error, "cohorts": choices}, status=409)
        if emulator.settings.count_only:
            return _json({"error": "This emulator only counts: no members are kept."}, status=409)
        members = list(found[0][1].members)  # the set may change during the answer
        response = web.StreamResponse()
        response.content_type = "application/x-ndjson"
        await response.prepare(request)
        for start in range(0, len(members), _MEMBERS_A_WRITE):
            lines = map(orjson.dumps, members[start : start + _MEMBERS_A_WRITE])
            await response.write(b"\n".join(lines) + b"\n")
        return response


def _refuse_method(allowed: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        error = {"error": f"{request.method} is not allowed here, {allowed} is."}
        return _json(error, status=405, headers={"Allow": allowed})

    return refuse


def _json(
    value: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE),
        status=status,
        headers=headers,
        content_type="application/json",
    )
