from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mnemonic import Mnemonic

from fondaco.node.files import write_atomically
from fondaco.node.keys import mnemonic
from fondaco.node.keys.keystore import INTERACTIVE, MINIMUM, Cost, Keystore
from fondaco.protocol import addresses, limits
from fondaco.protocol.errors import Refused
from fondaco.protocol.signing import Signer

WORDS = "legal winner thank year wave sausage worth useful legal winner thank yellow"


@pytest.fixture
def store(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "keys")


def code_of(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        action()
    return caught.value.code


def edit(store: Keystore, name: str, change: Callable[[dict[str, object]], object]) -> None:
    path = store.directory / f"{name}.key"
    content = json.loads(path.read_bytes())
    change(content)
    write_atomically(path, json.dumps(content).encode())


def test_a_key_opens_with_its_passphrase_and_no_other(store: Keystore) -> None:
    made = store.create("me", "correct horse", cost=MINIMUM)
    assert store.load("me", "correct horse") == made
    assert code_of(lambda: store.load("me", "Correct horse")) == "keys.wrong_passphrase"
    assert code_of(lambda: store.load("me", "")) == "keys.wrong_passphrase"


def test_the_default_cost_is_64_mib() -> None:
    assert Cost(passes=2, memory_bytes=64 * 1024 * 1024) == INTERACTIVE


def test_an_open_key_signs_seals_and_has_an_address(store: Keystore) -> None:
    key = store.create("me", "", cost=MINIMUM)
    assert key.public_key == Signer(key.seed).public_key
    assert addresses.decode(key.address) == key.public_key
    assert key.sealing().key == store.load("me", "").sealing().key


def test_secrets_do_not_show(store: Keystore) -> None:
    key = store.create("me", "", cost=MINIMUM)
    shown = f"{key!r} {key} {key.signer()!r} {key.sealing()!r} {store.info('me')!r}"
    assert key.entropy is not None
    for secret in (key.seed, key.entropy):
        assert secret.hex() not in shown
        assert repr(secret) not in shown
    content = (store.directory / "me.key").read_bytes()
    for secret in (key.seed, key.entropy):
        assert secret.hex().encode() not in content


def test_files_are_for_their_owner_only(store: Keystore) -> None:
    store.create("me", "", cost=MINIMUM)
    path = store.directory / "me.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert store.directory.stat().st_mode & 0o777 == 0o700
    for mode in (0o640, 0o604, 0o660):
        os.chmod(path, mode)
        assert code_of(lambda: store.load("me", "")) == "keys.permissions"
        assert code_of(store.list) == "keys.permissions"


def test_a_name_is_taken_once_and_a_missing_one_is_said(store: Keystore) -> None:
    first = store.create("me", "", cost=MINIMUM)
    assert code_of(lambda: store.create("me", "", cost=MINIMUM)) == "keys.exists"
    assert store.load("me", "") == first
    assert code_of(lambda: store.load("you", "")) == "keys.not_found"


@pytest.mark.parametrize("name", ["", "../me", "a/b", "Me", ".me", "a" * 33, "me\n", "-me"])
def test_a_name_cannot_lead_out_of_the_folder(store: Keystore, name: str) -> None:
    assert code_of(lambda: store.create(name, "", cost=MINIMUM)) == "keys.name"
    assert code_of(lambda: store.load(name, "")) == "keys.name"


def test_keys_are_listed_by_name_without_their_passphrase(store: Keystore) -> None:
    assert store.list() == ()
    made = [store.create(name, name, cost=MINIMUM) for name in ("b", "a")]
    (store.directory / "Not A Name.key").write_bytes(b"")
    (store.directory / "notes.txt").write_bytes(b"")
    listed = store.list()
    assert [one.name for one in listed] == ["a", "b"]
    assert [one.address for one in listed] == [made[1].address, made[0].address]
    assert listed[0].path == store.directory / "a.key"


def test_the_default_is_what_was_named_else_tenant_else_the_only_one(store: Keystore) -> None:
    assert store.default() == "tenant"
    store.create("me", "", cost=MINIMUM)
    assert store.default() == "me"
    store.create("you", "", cost=MINIMUM)
    assert store.default() == "tenant"
    store.use("you")
    assert store.default() == "you"
    assert code_of(lambda: store.use("nobody")) == "keys.not_found"
    (store.directory / "default").write_text("../me")
    assert code_of(store.default) == "keys.name"


def test_a_renamed_key_is_the_same_and_stays_the_default(store: Keystore) -> None:
    made = [store.create(name, "word", cost=MINIMUM) for name in ("a", "b")]
    store.use("a")
    store.rename("a", "c")
    assert store.default() == "c"
    assert [one.name for one in store.list()] == ["b", "c"]
    assert store.load("c", "word").seed == made[0].seed
    assert code_of(lambda: store.rename("b", "c")) == "keys.exists"
    assert code_of(lambda: store.rename("a", "d")) == "keys.not_found"
    store.rename("b", "d")
    assert store.default() == "c", "that was another one"


def test_a_removed_key_is_gone_and_no_default_any_more(store: Keystore) -> None:
    for name in ("a", "b", "c"):
        store.create(name, "", cost=MINIMUM)
    store.use("b")
    store.remove("a")
    assert store.default() == "b"
    store.remove("b")
    assert [one.name for one in store.list()] == ["c"]
    assert not (store.directory / "default").exists()
    assert code_of(lambda: store.remove("b")) == "keys.not_found"


def test_an_exported_file_opens_where_it_is_imported(store: Keystore, tmp_path: Path) -> None:
    made, other = store.create("me", "word", cost=MINIMUM), Keystore(tmp_path / "other")
    info = other.import_file("you", store.export("me"))
    assert (info.public_key, info.kind, info.path.stat().st_mode & 0o777) == (made.public_key, "mnemonic", 0o600)
    assert other.load("you", "word").words() == made.words()
    assert code_of(lambda: other.import_file("you", store.export("me"))) == "keys.exists"
    assert code_of(lambda: other.import_file("me", b"{}")) == "keys.malformed"
    assert other.name_of(made.public_key) == "you"
    assert store.name_of(Signer(bytes(32)).public_key) is None


@pytest.mark.parametrize("kind", ["mnemonic", "seed"])
def test_changing_the_passphrase_keeps_the_key(store: Keystore, kind: str) -> None:
    made = (
        store.create("me", "old", cost=MINIMUM)
        if kind == "mnemonic"
        else store.add_seed("me", "old", bytes(range(32)), cost=MINIMUM)
    )
    store.change_passphrase("me", "old", "new", cost=MINIMUM)
    assert store.load("me", "new") == made
    assert code_of(lambda: store.load("me", "old")) == "keys.wrong_passphrase"
    assert code_of(lambda: store.change_passphrase("me", "old", "x")) == "keys.wrong_passphrase"


def test_a_key_comes_back_from_its_words(store: Keystore) -> None:
    made = store.create("me", "", cost=MINIMUM)
    assert len(made.words().split()) == 24
    back = store.restore("again", "other", f"  {made.words().upper()}\n", cost=MINIMUM)
    assert back.seed == made.seed
    assert back.words() == made.words()
    assert store.load("again", "other") == back


def test_an_imported_seed_has_no_words(store: Keystore) -> None:
    key = store.add_seed("me", "", bytes(range(32)), cost=MINIMUM)
    assert key.public_key == Signer(bytes(range(32))).public_key
    assert code_of(key.words) == "keys.no_words"
    assert store.load("me", "") == key


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "0 words"),
        ("legal winner", "2 words"),
        (WORDS.replace("sausage", "sausagf"), "word 6 is not"),
        (WORDS.replace("legal winner", "winner legal", 1), "do not fit"),
    ],
)
def test_words_that_are_no_key_are_refused_without_being_shown(store: Keystore, words: str, message: str) -> None:
    with pytest.raises(Refused, match=message) as caught:
        store.restore("me", "", words, cost=MINIMUM)
    assert caught.value.code == "keys.mnemonic"
    assert "sausagf" not in str(caught.value)
    assert store.list() == ()


CHANGES: list[Callable[[dict[str, object]], object]] = [
    lambda content: content.update(format=2),
    lambda content: content.update(kind="other"),
    lambda content: content.update(kind=[]),
    lambda content: content.update(public_key="00"),
    lambda content: content.update(public_key=Signer(bytes(32)).public_key.hex()),
    lambda content: content.update(kind="seed"),
    lambda content: content.update(box="00"),
    lambda content: content.update(box=7),
    lambda content: content.pop("kdf"),
    lambda content: content.update(kdf=[]),
    lambda content: content["kdf"].update(name="scrypt"),  # type: ignore[attr-defined]
    lambda content: content["kdf"].update(salt=""),  # type: ignore[attr-defined]
    lambda content: content["kdf"].update(passes=10**9),  # type: ignore[attr-defined]
    lambda content: content["kdf"].update(passes=True),  # type: ignore[attr-defined]
    lambda content: content["kdf"].update(memory_bytes=1 << 45),  # type: ignore[attr-defined]
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_refused_before_it_costs_anything(
    store: Keystore, change: Callable[[dict[str, object]], object]
) -> None:
    store.create("me", "", cost=MINIMUM)
    edit(store, "me", change)
    assert code_of(lambda: store.load("me", "")) == "keys.malformed"


def test_a_box_of_the_wrong_size_is_refused(store: Keystore) -> None:
    store.restore("me", "", WORDS, cost=MINIMUM)
    edit(store, "me", lambda content: content.update(kind="seed"))
    assert code_of(lambda: store.load("me", "")) == "keys.malformed"


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 10_000, bytes(limits.KEY_FILE_BYTES + 1)]
)
def test_a_file_that_is_no_key_is_refused(store: Keystore, data: bytes) -> None:
    store.create("me", "", cost=MINIMUM)
    write_atomically(store.directory / "me.key", data)
    assert code_of(lambda: store.load("me", "")) == "keys.malformed"


def test_a_changed_box_does_not_open(store: Keystore) -> None:
    store.create("me", "", cost=MINIMUM)
    edit(store, "me", lambda content: content.update(box=str(content["box"])[:-2] + "00"))
    assert code_of(lambda: store.load("me", "")) in ("keys.wrong_passphrase",)


def test_no_two_files_share_a_salt_or_a_box(store: Keystore) -> None:
    for name in ("a", "b"):
        store.add_seed(name, "same", bytes(range(32)), cost=MINIMUM)
    a, b = (json.loads((store.directory / f"{name}.key").read_bytes()) for name in ("a", "b"))
    assert a["box"] != b["box"]
    assert a["kdf"]["salt"] != b["kdf"]["salt"]


@pytest.mark.parametrize(
    ("entropy", "words", "seed"),
    [  # the reference vectors of BIP-39, whose passphrase is TREZOR
        (
            "00000000000000000000000000000000",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
            "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
        ),
        (
            "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
            WORDS,
            "2e8905819b8723fe2c1d161860e5ee1830318dbf49a83bd451cfb8440c28bd6fa457fe1296106559a3c80937a1c1069be3a3a5bd381ee6260e8d9739fce1f607",
        ),
    ],
)
def test_words_follow_bip39(entropy: str, words: str, seed: str) -> None:
    assert mnemonic.to_words(bytes.fromhex(entropy)) == words
    assert mnemonic.to_entropy(words) == bytes.fromhex(entropy)
    assert Mnemonic.to_seed(words, "TREZOR").hex() == seed


def test_derivation_follows_slip_0010() -> None:
    """Test vector 1 for ed25519."""
    master = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
    assert mnemonic.derive(master, ()).hex() == "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"
    assert (
        mnemonic.derive(master, (0,)).hex() == "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"
    )
    deep = mnemonic.derive(master, (0, 1, 2, 2, 1_000_000_000))
    assert deep.hex() == "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793"


def test_the_path_from_words_to_key_is_pinned() -> None:
    """Whoever restores in ten years must find the same account."""
    seed = mnemonic.to_seed(mnemonic.to_entropy(WORDS))
    assert mnemonic.PATH == (44, 1718578788, 0)
    assert Signer(seed).public_key.hex() == "ed0a78559fe9a1c722e00dbf55795dcc234fd9ed324ea841c6e60fc9a4df138b"
