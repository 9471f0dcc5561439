"""dlt (data load tool) with a custom destination, its own retries and its own HTTP client."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api
import dlt
from dlt.sources.helpers import requests

UIDS_A_REQUEST = 3_400
"""dlt cuts by count: so many uids of 24 digits make 126 KB, with the spaces that requests adds."""


def main() -> None:
    """Run the pipeline."""
    parser = api.arguments()
    parser.add_argument("--folder", type=Path, required=True, help="of the pipeline's state")
    given = parser.parse_args()
    spacing = given.per_seconds / given.requests
    last = float("-inf")

    @dlt.destination(
        batch_size=UIDS_A_REQUEST,
        name="cohort_sync",
        naming_convention="direct",
        skip_dlt_columns_and_tables=True,
        max_parallel_load_jobs=1,
    )
    def cohort_sync(items: list[dict[str, str]], table: Any) -> None:  # noqa: ANN401  dlt's own
        del table
        nonlocal last
        time.sleep(max(0.0, last + spacing - time.monotonic()))
        last = time.monotonic()
        requests.post(
            given.url,
            json=api.request([item["uid"] for item in items]),
            headers=api.HEADERS,
            auth=(api.WORKSPACE, api.API_KEY),
        ).raise_for_status()

    @dlt.resource(name="members", write_disposition="append")
    def members() -> Iterator[list[dict[str, str]]]:
        part: list[dict[str, str]] = []
        for uid in api.read_uids(given.export):
            part.append({"uid": uid})
            if len(part) == UIDS_A_REQUEST:
                yield part
                part = []
        yield part

    pipeline = dlt.pipeline(
        "cohort", destination=cohort_sync, pipelines_dir=str(given.folder / "pipelines")
    )
    pipeline.run(members()).raise_on_failed_jobs()


if __name__ == "__main__":
    main()
