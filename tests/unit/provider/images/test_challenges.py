"""What registries ask for, as they write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fondaco.provider.images.challenges import Challenge, basic, challenges, token_of
from fondaco.provider.images.registries import Login

HUB = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"'
MEANT = Challenge(
    scheme="bearer",
    realm="https://auth.docker.io/token",
    service="registry.docker.io",
    scope="repository:a/b:pull,push",
)


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([HUB], (MEANT,)),
        ([HUB.replace(",", " , ", 1).replace("Bearer", "bEARER")], (MEANT,)),
        (["Basic"], (Challenge(scheme="basic"),)),
        (['Basic realm="Registry \\"here\\""'], (Challenge(scheme="basic", realm='Registry "here"'),)),
        ([f'Basic realm="x", {HUB}'], (Challenge(scheme="basic", realm="x"), MEANT)),
        (["Basic realm=x", HUB], (Challenge(scheme="basic", realm="x"), MEANT)),
        ([f"{HUB},error=insufficient_scope"], (MEANT,)),
        (["", "=", '"', 'realm="nobody"'], ()),
        (['Bearer realm="never ends'], (Challenge(scheme="bearer"),)),
    ],
)
def test_challenges_are_read(headers: list[str], found: tuple[Challenge, ...]) -> None:
    assert challenges(headers) == found


@given(st.lists(st.text(alphabet='Bearer realm="a\\",=\t ', max_size=60), max_size=3))
def test_whatever_is_written_there_is_read_to_its_end(headers: list[str]) -> None:
    assert len(challenges(headers)) <= sum(map(len, headers))


def test_a_password_may_hold_anything() -> None:
    assert basic(Login(host="h", username="ü", password="a:b\n")) == "Basic w7w6YTpiCg=="


def test_logins_are_not_shown() -> None:
    assert "hidden" not in repr(Login(host="h", username="u", password="hidden"))


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b'{"token": "a"}', "a"),
        (b'{"access_token": "b"}', "b"),
        (b'{"token": "", "access_token": "b"}', "b"),
        *(
            (body, None)
            for body in (b"", b"[]", b"{}", b'{"token": 3}', b'{"token": "a b"}', b'{"token": "a\\n"}')
        ),
    ],
)
def test_a_token_is_found_in_either_place_and_must_fit_into_a_header(body: bytes, token: str | None) -> None:
    assert token_of(body) == token
