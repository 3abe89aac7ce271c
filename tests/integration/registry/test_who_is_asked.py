"""Where a pull may lead, and who gets to see a password: policy, addresses, TLS, redirects, token servers."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from tests.integration.registry.conftest import StoreOf
from tests.support.made_images import make_image
from tests.support.registries import (
    PASSWORD,
    USER,
    Answer,
    Asked,
    Rule,
    StrangeRegistry,
    certificate_for,
    login,
    named,
    strange_registry,
    trusting,
)

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.provider.images import guarded
from fondaco.provider.images.registries import Login, Registries
from fondaco.provider.runtimes.oci import ImageStore

BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@pytest.fixture
async def other() -> AsyncIterator[StrangeRegistry]:
    async with strange_registry() as registry:
        yield registry


async def refused(store: ImageStore, reference: str, given: Login | None = None) -> Refused:
    with pytest.raises(Refused) as refusal:
        await store.prepare(reference, login=given)
    assert PASSWORD not in str(refusal.value)
    return refusal.value


def seen(registry: StrangeRegistry) -> set[str]:
    """The credentials it was shown."""
    return {asked.headers.get("authorization", "") for asked in registry.asked}


def redirecting(to: StrangeRegistry | str, status: int = 307) -> Answer:
    return Answer(status=status, headers={"Location": to if isinstance(to, str) else f"http://{to.host}/blob"})


# --- Policy and addresses


async def test_what_the_operator_does_not_let_in_is_refused_before_anything_is_asked(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image())
    for registries in (
        trusting(strange.host, deny=("*",)),
        trusting(strange.host, deny=(f"{strange.host}/team",)),
        trusting(strange.host, allow=("docker.io", "*.example.org")),
    ):
        assert (await refused(store_of(registries=registries), reference)).code == "image.registry"
    assert strange.asked == []
    await store_of(registries=trusting(strange.host, allow=(f"{strange.host}/team/app",))).prepare(reference)


async def test_a_private_address_is_not_connected_to_unless_the_operator_says_so(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image())
    assert (await refused(store_of(), reference)).code == "image.address"
    by_name = reference.replace("127.0.0.1", "localhost")
    assert (await refused(store_of(), by_name)).code == "image.address"
    for numbers in ("2130706433", "0x7f.1", "127.1"):
        refusal = await refused(store_of(), f"{numbers}:{strange.port}/team/app:1")
        assert refusal.code in ("image.address", "image.reference")
    assert strange.asked == []


@pytest.mark.parametrize("address", ["169.254.169.254", "10.0.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0", "::1"])
async def test_a_name_that_leads_to_a_private_address_is_refused(store_of: StoreOf, address: str) -> None:
    with named(registry_test=[(address,)]):
        assert (await refused(store_of(), "registry.test/team/app:1")).code == "image.address"


async def test_the_address_that_was_looked_at_is_the_one_connected_to(
    strange: StrangeRegistry, store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is looked at and private a moment later gains nothing."""
    tried: list[str] = []

    async def connect(self: object, request: httpx.Request) -> None:
        tried.append(request.url.host)
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", connect)
    monkeypatch.setattr("fondaco.provider.runtimes.bounds.REGISTRY_ATTEMPTS", 1)
    with named(registry_test=[("8.8.8.8", "127.0.0.1"), ("127.0.0.1",)]), pytest.raises(Unreachable):
        await store_of().prepare("registry.test/team/app:1")
    assert tried == ["8.8.8.8"]
    assert strange.asked == []


async def test_a_name_that_is_nowhere_is_unreachable(strange: StrangeRegistry, store_of: StoreOf) -> None:
    with pytest.raises(Unreachable, match=r"image\.unreachable"):
        await store_of().prepare("nowhere.invalid/team/app:1")


# --- TLS


async def test_a_registry_is_spoken_to_by_its_name_over_tls(
    store_of: StoreOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fondaco.provider.runtimes.bounds.REGISTRY_ATTEMPTS", 1)
    server, client = certificate_for("registry.test")
    monkeypatch.setattr(guarded, "_trusted", lambda: client)
    async with strange_registry(server) as registry:
        with named(registry_test=[("127.0.0.1",)], other_test=[("127.0.0.1",)]):
            registry.add(make_image())
            host, stranger = f"registry.test:{registry.port}", f"other.test:{registry.port}"
            store = store_of(registries=trusting(host, stranger))
            await store.prepare(f"{host}/team/app:1", login=login(host))
            assert {asked.headers["host"] for asked in registry.asked} == {host}
            # The certificate is not for that name: nothing is asked, and no connection of the other is used.
            count = len(registry.asked)
            with pytest.raises(Unreachable, match=r"certificate|CERTIFICATE"):
                await store.prepare(f"{stranger}/team/app:1", login=login(stranger))
            assert len(registry.asked) == count


# --- Redirects


async def test_a_blob_may_lie_elsewhere_and_no_credentials_go_there(
    strange: StrangeRegistry, other: StrangeRegistry, store_of: StoreOf
) -> None:
    image = make_image()
    reference, (layer,) = strange.add(image), image.layers
    strange.rules.append(
        lambda asked: (
            None
            if asked.headers.get("authorization") == BASIC
            else Answer(status=401, headers={"WWW-Authenticate": 'Basic realm="here"'})
        )
    )
    strange.when(layer, redirecting(other))
    other.when("/blob", Answer(body=image.blobs[layer]))
    await store_of(strange.host, other.host).prepare(reference, login=login(strange.host))
    assert seen(other) == {""}
    assert seen(strange) == {"", BASIC}


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "image.redirect"),
        ("https://169.254.169.254/latest/meta-data", "image.address"),
        ("https://[::ffff:10.0.0.1]/", "image.address"),
        ("https://user:word@example.org/", "image.redirect"),
        ("http://example.org/", "image.redirect"),
        ("file:///etc/passwd", "image.redirect"),
        ("https://example.org:99999999/", "image.redirect"),
        ("https://example.org:0/", "image.redirect"),
        ("", "image.redirect"),
        ("http://[broken", "image.redirect"),
    ],
)
async def test_a_redirect_leads_to_no_private_address_and_out_of_no_protection(
    strange: StrangeRegistry, store_of: StoreOf, where: str, code: str
) -> None:
    image = make_image()
    reference = strange.add(image)
    strange.when(image.layers[0], redirecting(where))
    assert (await refused(store_of(strange.host), reference)).code == code


async def test_a_redirect_to_another_service_on_this_machine_is_refused(
    strange: StrangeRegistry, other: StrangeRegistry, store_of: StoreOf
) -> None:
    image = make_image()
    reference = strange.add(image)
    strange.when(image.layers[0], redirecting(other))
    assert (await refused(store_of(strange.host), reference)).code == "image.address"
    assert other.asked == []


async def test_redirects_without_end_are_left(strange: StrangeRegistry, store_of: StoreOf) -> None:
    image = make_image()
    reference, (layer,) = strange.add(image), image.layers
    strange.when(layer, redirecting(f"/v2/team/app/blobs/{layer}", 302))
    assert (await refused(store_of(strange.host), reference)).code == "image.redirect"
    assert strange.count(layer) < 10


# --- Tokens


def wants_token(registry: StrangeRegistry, realm: str, token: str = "t0ken") -> None:
    challenge = f'Bearer realm="{realm}",service="registry",scope="repository:team/app:pull"'

    def rule(asked: Asked) -> Answer | None:
        if not asked.path.startswith("/v2/") or asked.headers.get("authorization") == f"Bearer {token}":
            return None
        return Answer(status=401, headers={"WWW-Authenticate": challenge})

    registry.rules.append(rule)


def gives_token(registry: StrangeRegistry, only_to: str = "", token: str = "t0ken") -> None:
    registry.when(
        "/token",
        lambda asked: (
            Answer(body=json.dumps({"token": token}).encode())
            if asked.headers.get("authorization", "") == only_to
            else Answer(status=401)
        ),
    )


async def test_a_token_is_fetched_once_for_all_of_an_image_also_by_who_has_no_password(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image({"a": b"1"}, {"b": b"2"}, {"c": b"3"}))
    wants_token(strange, f"http://{strange.host}/token")
    gives_token(strange)
    await store_of(strange.host).prepare(reference)
    (asked,) = (asked for asked in strange.asked if "/token" in asked.path)
    assert asked.path == "/token?service=registry&scope=repository%3Ateam%2Fapp%3Apull"


async def test_a_token_server_elsewhere_is_shown_the_password_of_the_registry_that_names_it_and_no_other(
    strange: StrangeRegistry, other: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image())
    wants_token(strange, f"http://{other.host}/token")
    gives_token(other, only_to=BASIC)
    both = trusting(strange.host, other.host, logins={other.host: login(other.host, "somebody", "else")})
    store = store_of(registries=both)
    assert (await refused(store, reference)).code == "image.credentials"
    assert seen(other) == {""}
    await store.prepare(reference, login=login(strange.host))
    assert seen(other) == {"", BASIC}
    assert BASIC not in seen(strange)


@pytest.mark.parametrize(
    ("realm", "code"),
    [
        ("https://169.254.169.254/token", "image.address"),
        ("http://token.example/token", "image.redirect"),
        ("ftp://token.example/token", "image.redirect"),
        ("https://a:b@token.example/", "image.redirect"),
    ],
)
async def test_a_token_server_that_is_private_or_without_tls_is_shown_nothing(
    strange: StrangeRegistry, store_of: StoreOf, realm: str, code: str
) -> None:
    reference = strange.add(make_image())
    wants_token(strange, realm)
    assert (await refused(store_of(strange.host), reference, login(strange.host))).code == code


async def test_a_token_server_on_this_machine_is_not_asked_unless_it_may_be(
    strange: StrangeRegistry, other: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image())
    wants_token(strange, f"http://{other.host}/token")
    assert (await refused(store_of(strange.host), reference, login(strange.host))).code == "image.address"
    assert other.asked == []


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Answer(body=b"{}"), "image.token"),
        (Answer(body=b'{"token": "a\\r\\nb"}'), "image.token"),
        (Answer(body=b"[" * 50_000), "image.token"),
        (Answer(body=b" " * 4_096, length=-1, endless=True), "image.limit"),
        (Answer(status=403), "image.credentials"),
        (Answer(body=b'{"access_token": "another"}'), "image.credentials"),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), "image.credentials"),
    ],
)
async def test_a_token_server_that_gives_no_good_token_is_not_asked_for_ever(
    strange: StrangeRegistry, store_of: StoreOf, answer: Answer, code: str
) -> None:
    reference = strange.add(make_image())
    wants_token(strange, f"http://{strange.host}/token")
    strange.when("/token", answer)
    assert (await refused(store_of(strange.host), reference)).code == code
    assert strange.count("/token") == 1


async def test_a_token_that_ends_before_the_pull_does_is_fetched_anew(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    image = make_image()
    reference = strange.add(image)
    wants_token(strange, f"http://{strange.host}/token")
    gives_token(strange)
    challenge = f'Bearer realm="http://{strange.host}/token",service="registry"'
    expired = Answer(status=401, headers={"WWW-Authenticate": challenge})
    strange.rules.insert(0, once(image.layers[0], expired))
    await store_of(strange.host).prepare(reference)
    assert strange.count("/token") == 2


def once(part: str, answer: Answer) -> Rule:
    left = [answer]

    def rule(asked: Asked) -> Answer | None:
        return left.pop() if part in asked.path and left else None

    return rule


async def test_the_operators_own_credentials_go_to_their_registry_and_the_tenants_before_them(
    strange: StrangeRegistry, store_of: StoreOf
) -> None:
    reference = strange.add(make_image())
    challenge = Answer(status=401, headers={"WWW-Authenticate": "Basic"})
    strange.rules.append(lambda asked: None if "authorization" in asked.headers else challenge)
    registries = replace(
        Registries(private=frozenset({strange.host})), logins={strange.host: login(strange.host, "op")}
    )
    await store_of(registries=registries).prepare(reference)
    operator = "Basic " + base64.b64encode(f"op:{PASSWORD}".encode()).decode()
    assert seen(strange) == {"", operator}
    strange.asked.clear()
    await store_of(registries=registries).prepare(reference, login=login(strange.host))
    assert seen(strange) == {"", BASIC}
