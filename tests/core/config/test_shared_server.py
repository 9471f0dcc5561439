"""The server of a shared ceiling: its URL, and where its password may stand."""

from pathlib import Path

import pytest

from engine.config.loading import Config, load
from engine.errors import ConfigError

PASSWORD = "s3cret-password"
REFUSED = {
    '"http://h"': "should begin with redis://, rediss:// or unix://",
    '"redis://h:0x"': "should have a port from 1 to 65535",
    '"redis://h/x"': "should end with the number of a database, as /0",
    '"redis://h/0?ssl=1"': "should end after the database's number",
    '"unix://h/socket"': "should be unix:// and an absolute path",
    '"redis:///0"': "should name a host, in ASCII",
    f'"rediss://u:{PASSWORD}@h"': "should not hold a password, in a file that is copied",
    '"redis://u:${SECRET}@h"': "should begin with rediss://: over redis://, anyone on the way",
}


def loaded(folder: Path, limits: str, **environ: str) -> Config:
    path = folder / "config.toml"
    path.write_text(f'[workspace]\nid = "W"\ndata_center = "01"\n[limits]\n{limits}\n')
    known = {"MOENGAGE_API_KEY": "k", "SECRET": PASSWORD, **environ}
    return load(path, environ=known)


@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_will_not_do_is_one_clear_line(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"shared = {url}")
    assert f"`limits.shared` {REFUSED[url]}" in caught.value.message
    assert PASSWORD not in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    ("limits", "label"),
    [
        ('shared = "redis://127.0.0.1"', "redis://127.0.0.1:6379/0"),
        ('shared = "redis://u:${SECRET}@localhost:7/3"', "redis://localhost:7/3"),
        ('shared = "rediss://u:${SECRET}@h"', "rediss://h:6379/0"),
        ('shared = "redis://u:${SECRET}@h"\nshared_plain = true', "redis://h:6379/0"),
        ('shared = "unix:///run/valkey.sock"', "unix:///run/valkey.sock"),
    ],
)
def test_a_password_is_read_when_it_is_needed_and_never_shown(
    tmp_path: Path, limits: str, label: str
) -> None:
    config = loaded(tmp_path, limits)
    assert config.shared is not None
    assert config.shared.access.address.label == label
    assert config.shared.access.password() == (PASSWORD if "SECRET" in limits else None)
    assert PASSWORD not in repr(config)


def test_a_file_has_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "redis.password"
    file.write_text(f"{PASSWORD}\n")
    limits = 'shared = "rediss://u@h"\nshared_password_file = "redis.password"'
    config = loaded(tmp_path, limits)
    assert config.shared is not None
    assert config.shared.access.password() == PASSWORD
    file.unlink()
    with pytest.raises(ConfigError, match=r"`limits\.shared_password_file` names a file that"):
        config.shared.access.password()
    monkeypatch.setenv("COHORTSYNC_SHARED_PASSWORD", "another")
    config = loaded(tmp_path, 'shared = "rediss://u@h"', COHORTSYNC_SHARED_PASSWORD="another")
    assert config.shared is not None
    assert config.shared.access.password() == "another"
    with pytest.raises(ConfigError, match="over redis://"):
        loaded(tmp_path, 'shared = "redis://h"', COHORTSYNC_SHARED_PASSWORD="another")


@pytest.mark.parametrize("value", ['"wait"', "0", "1.5", "true"])
def test_what_to_do_without_the_server_is_stop_or_a_share(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="a share of the ceiling from"):
        loaded(tmp_path, f"shared_down = {value}")
    assert loaded(tmp_path, "shared_down = 0.25").hosts.shared_down == 0.25
