"""What is named by an endpoint has one name for all its spellings, in any state folder."""

from pathlib import Path

import pytest

from engine.config.loading import Config, load
from engine.coordination.coordination import key_prefix
from engine.model.cohort import CohortKey
from engine.planning.database.engine import ExternalEngine
from engine.runs.engines import engine_of
from engine.storage.paths import ledger_folder

KEY = CohortKey("partner", "cohort")
SAME = [
    ("http://127.0.0.1:8765", "http://localhost.:8765/"),
    ("http://127.0.0.1:8765", "HTTP://[0:0:0:0:0:0:0:1]:8765"),
    ("http://127.0.0.1", "http://LOCALHOST:80"),
    ("https://api-01.moengage.com", "https://API-01.MoEngage.com.:0443/"),
    ("https://[2001:db8::7]", "https://[2001:0DB8:0::7]:443"),
]
OTHERS = ["https://127.0.0.1:8765", "http://127.0.0.2:8765", "https://api-02.moengage.com"]


def configured(folder: Path, endpoint: str) -> Config:
    folder.mkdir(exist_ok=True)
    path = folder / "config.toml"
    path.write_text(
        f'[workspace]\nid = "W/1"\nendpoint = "{endpoint}"\n'
        '[plan]\nengine = "duckdb"\nconnection = "file"\n'
        '[connections.file]\nurl = "duckdb:plans.duckdb"\n'
    )
    return load(path, need_credentials=False, environ={})


def names(config: Config) -> tuple[str, ...]:
    """Return the names of the folder, of the tables and of the keys in Redis."""
    workspace, folder = config.workspace, config.place.folder
    return (
        str(folder.relative_to(config.state_dir)),
        tables(config, folder),
        key_prefix(workspace.endpoint.identity, workspace.id),
    )


def tables(config: Config, folder: Path) -> str:
    engine = engine_of(config, folder, KEY)
    assert isinstance(engine, ExternalEngine)
    return str(engine.generations.name)


@pytest.mark.parametrize(("one", "other"), SAME)
def test_each_spelling_leads_to_one_folder_table_and_key(
    tmp_path: Path, one: str, other: str
) -> None:
    found = names(configured(tmp_path / "one", one))
    assert found == names(configured(tmp_path / "other", other))
    for text in OTHERS:
        different = names(configured(tmp_path / "different", text))
        assert not set(found) & set(different)


@pytest.mark.parametrize("older", ["http://localhost:8765", "http://[::1]:8765"])
def test_a_folder_that_an_older_version_has_spelled_otherwise_has_the_same_tables(
    tmp_path: Path, older: str
) -> None:
    new = configured(tmp_path / "new", "http://127.0.0.1:8765")
    config = configured(tmp_path / "old", "http://127.0.0.1:8765")
    folder = ledger_folder(config.state_dir, older, config.workspace.id)
    folder.mkdir(parents=True)
    config = configured(tmp_path / "old", older)
    assert config.place.folder == folder
    assert tables(config, folder) == tables(new, new.place.folder)
