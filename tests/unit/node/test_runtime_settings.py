"""From a provider's configuration to its registries; passwords come from a file that is nobody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fondaco.node.cli import cli
from fondaco.node.provider_config import ProviderConfig
from fondaco.node.runtime_settings import read_logins, registries_of
from fondaco.protocol.errors import Refused

LOGINS = """
["https://index.docker.io/v1/"]
username = "me"
password = "hidden"

["registry.lan:5000"]
username = "you"
password = "hidden too"
"""


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_what_the_configuration_says_of_registries_is_what_they_are(tmp_path: Path) -> None:
    registries = registries_of(
        ProviderConfig(
            allow_registries=("docker.io", "*.lan"),
            deny_registries=("docker.io/evil",),
            private_registries=("Registry.lan:5000",),
            insecure_registries=("registry.lan:5000",),
            registry_credentials=written(tmp_path / "logins.toml", LOGINS),
        )
    )
    assert registries.private == registries.insecure == {"registry.lan:5000"}
    assert {host: login.username for host, login in registries.logins.items()} == {
        "docker.io": "me",
        "registry.lan:5000": "you",
    }
    assert "hidden" not in repr(registries)


@pytest.mark.parametrize("name", ["allow_registries", "deny_registries", "private_registries"])
def test_a_list_with_what_is_no_registry_is_refused(name: str) -> None:
    with pytest.raises(Refused, match=r"config\.field.*no host"):
        registries_of(ProviderConfig(**{name: ("not a host",)}))  # type: ignore[arg-type]


def test_a_cache_of_less_than_nothing_is_refused() -> None:
    with pytest.raises(Refused, match=r"config\.field.*image_cache_bytes"):
        registries_of(ProviderConfig(image_cache_bytes=-1))


def test_a_provider_whose_credentials_can_be_read_by_others_does_not_start(tmp_path: Path) -> None:
    written(tmp_path / "logins.toml", LOGINS, 0o644)
    config = 'name = "n"\nlisten = "127.0.0.1:1"\n[provider]\nregistry_credentials = "logins.toml"\n'
    (tmp_path / "node.toml").write_text(config)
    result = CliRunner().invoke(cli, ["provider", "run", "--home", str(tmp_path)])
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0].endswith("[config.credentials]")


@pytest.mark.parametrize(
    "text",
    [
        "not toml hidden",
        'a = "hidden"',
        '["docker.io"]\nusername = "hidden"',
        '["docker.io"]\nusername = "a"\npassword = 3 # hidden',
        '["docker.io"]\nusername = "a"\npassword = "hidden"\ntoken = "hidden"',
    ],
)
def test_a_file_that_is_wrong_is_refused_without_showing_what_is_in_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(Refused) as refusal:
        read_logins(written(tmp_path / "logins.toml", text))
    assert refusal.value.code == "config.credentials"
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_can_touch_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    with pytest.raises(Refused, match=r"config\.credentials.*chmod 600"):
        read_logins(written(tmp_path / "logins.toml", LOGINS, mode))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"config\.credentials.*No such file"):
        registries_of(ProviderConfig(registry_credentials=tmp_path / "nowhere"))
