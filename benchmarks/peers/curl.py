"""curl with `--rate`: one process sends payload files that were packed beforehand.

This program packs them and writes `curlrc`, which says the rest; then `curl --config curlrc` sends.
"""

import os
from pathlib import Path

import api
import careful

TRIES = 5


def pack(export: Path, folder: Path) -> int:
    """Write numbered payload files; return how many."""
    number = 0
    for number, payload in enumerate(careful.payloads(export), 1):
        (folder / f"payload-{number}.json").write_bytes(payload)
    return number


def write_options(folder: Path, url: str, files: int, per_minute: int) -> None:
    """Have curl send the files one after the other, each again up to five times."""
    options = [
        ("url", url),
        ("request", "POST"),
        ("upload-file", f"{folder}/payload-[1-{files}].json"),
        ("user", f"{api.WORKSPACE}:{api.API_KEY}"),
        *(("header", f"{name}: {text}") for name, text in api.HEADERS.items()),
        ("rate", f"{per_minute}/m"),
        ("retry", str(TRIES)),
        ("output", os.devnull),
    ]
    lines = [f'{name} = "{value}"' for name, value in options]
    lines += ["retry-all-errors", "fail", "silent", "show-error"]
    (folder / "curlrc").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = api.arguments()
    parser.add_argument("--folder", type=Path, required=True, help="of all that is written")
    given = parser.parse_args()
    count = pack(given.export, given.folder)
    rate = round(given.requests * 60 / given.per_seconds)
    write_options(given.folder, given.url, count, rate)
