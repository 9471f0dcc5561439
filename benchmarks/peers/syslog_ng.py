"""syslog-ng's http() destination: a file source, batches by bytes, a throttle in messages.

This program writes the configuration; then syslog-ng reads the export, for ever.
"""

import base64
from pathlib import Path

import api
import orjson

PAYLOAD_BYTES = 128_000
UIDS_A_REQUEST = 3_640
"""http() has no throttle in requests: uids a second stand for them."""

CONFIG = """\
@version: 3.35
options {{ stats-freq(0); time-reopen(1); keep-hostname(yes); use-dns(no); }};
source export {{
  file("{export}" flags(no-parse) log-fetch-limit(10000) log-iw-size(100000));
}};
filter uid {{ not message("^uid$"); }};
destination cohort {{
  http(
    url("{url}") method("POST")
    headers("MOE-APPKEY: {workspace}", "Content-Type: application/json",
            "Authorization: Basic {credentials}")
    body-prefix({head}) body('{{"uid":"$MSG"}}') delimiter(",") body-suffix({tail})
    batch-lines({uids}) batch-bytes({payload_bytes}) batch-timeout(1000)
    workers(1) throttle({throttle}) timeout(30) retries(1000000)
    response-action(429 => retry)
  );
}};
log {{ source(export); filter(uid); destination(cohort); flags(flow-control); }};
"""


def write_config(path: Path, export: Path, url: str, per_second: float) -> None:
    """Write the configuration."""
    empty = orjson.dumps(api.request([])).decode()
    credentials = base64.b64encode(f"{api.WORKSPACE}:{api.API_KEY}".encode()).decode()
    text = CONFIG.format(
        export=export,
        url=url,
        workspace=api.WORKSPACE,
        credentials=credentials,
        head=f"'{empty[:-3]}'",
        tail=f"'{empty[-3:]}'",
        uids=UIDS_A_REQUEST,
        payload_bytes=PAYLOAD_BYTES,
        throttle=int(per_second * UIDS_A_REQUEST),
    )
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    parser = api.arguments()
    parser.add_argument("--folder", type=Path, required=True, help="of all that is written")
    given = parser.parse_args()
    config = given.folder / "syslog-ng.conf"
    write_config(config, given.export, given.url, given.requests / given.per_seconds)
