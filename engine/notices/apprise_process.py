"""Sends a notification by Apprise, as a program of its own.

Its parent can end it at any time, which no thread can be: a service may answer slowly or never, and
so may a name server. What Apprise and the libraries below it log, with secrets in it, is dropped.

It reads a JSON list from stdin. Each entry has `url`, and `title`, `body` and `level` of a message,
or null for `title`: then nothing is sent. For each entry it writes a line when it is done: its
index and its result, which is `ok`, `failed`, or `invalid` if no service of Apprise takes the URL.

It imports nothing of the engine, so that it starts quickly.
"""

import json
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import apprise


def main() -> None:
    """Answer the request on stdin."""
    logging.disable()
    entries: list[dict[str, Any]] = json.load(sys.stdin)
    asset = apprise.AppriseAsset(
        app_id="cohortsync",
        app_desc="cohortsync",
        app_url="",
        http_redirects=False,  # A message goes to nobody but the service that is named.
        storage_mode="memory",
    )

    def handle(index: int) -> None:
        sys.stdout.write(f"{index} {_result(entries[index], asset)}\n")
        sys.stdout.flush()

    with ThreadPoolExecutor(max_workers=16) as pool:
        list(pool.map(handle, range(len(entries))))


def _result(entry: dict[str, Any], asset: apprise.AppriseAsset) -> str:
    try:
        service = apprise.Apprise.instantiate(entry["url"], asset=asset)
        if not service:
            return "invalid"
        if entry["title"] is None:
            return "ok"
        sender = apprise.Apprise(asset=asset)
        sender.add(service)
        sent = sender.notify(
            title=entry["title"],
            body=entry["body"],
            notify_type=apprise.NotifyType(entry["level"]),
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception:  # noqa: BLE001 - a service's bug; its text may repeat the URL
        return "failed"
    return "ok" if sent else "failed"


if __name__ == "__main__":
    main()
