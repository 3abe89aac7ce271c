"""A chain that goes on as another: leases go on, money is kept, and nothing signed for the old one counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.support.bookkeeper import Bookkeeper
from tests.support.heirs import Heir, heritage, kept, records_of
from tests.support.ledger import COMMITMENT, FREE, HOUR, MINUTE, World, codes, entries

from fondaco.consensus.ledger.carrying import LEFT_BEHIND, Record, state_writes
from fondaco.consensus.ledger.genesis import Genesis, GenesisAccount, GenesisState, genesis_from
from fondaco.consensus.ledger.recount import SINGLE
from fondaco.consensus.ledger.start import genesis_writes
from fondaco.consensus.ledger.state import MemoryStore
from fondaco.protocol import codec, records
from fondaco.protocol.errors import Refused
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.messages import Unjail
from fondaco.protocol.records import VALIDATORS, DeploymentState, LeaseState, ValidatorSets
from fondaco.protocol.scalars import Hash, MicroCredits, MicroStake, Millis

FOUR = {"ann": 10, "ben": 10, "cat": 10, "dan": 10}
PEOPLE = ("alice", "bob", "paul", "petra", "eve")
RATE = 3_600_000
"""One thousand ucredit a second."""
OTHER = Hash(bytes(32))


class Scene:
    """A market in the middle of things: every state of a lease; validators in jail, convicted, leaving."""

    def __init__(self) -> None:
        settings = FREE | {"absence_blocks": 4, "absence_ms": 1_000, "jail_ms": HOUR, "unbonding_ms": HOUR}
        settings |= {"evidence_blocks": 5, "evidence_ms": 1_000, "handoff_window_ms": 5 * MINUTE}
        self.world = world = World(*PEOPLE, *FOUR, validators=FOUR, authority="eve", **settings)
        alice, bob, paul, petra, eve = world.actors(*PEOPLE)
        world.block(paul.registers(), petra.registers(bond=2_000_000))
        self.active = alice.leases((paul, RATE), (petra, RATE), deposit=900_000)
        self.dry = bob.leases((paul, RATE), deposit=3_000)
        self.waiting = bob.leases((petra, RATE), deposit=50_000)
        self.closed = alice.leases((petra, RATE), deposit=50_000)
        world.block(self.active, self.dry, self.waiting, self.closed)
        world.block(
            *(
                world.by_key[world.lease(lease).provider].activates(lease, receipt_of=tenant)
                for tenant, draft in ((alice, self.active), (bob, self.dry), (alice, self.closed))
                for lease in draft.leases
            )
        )
        world.block(alice.closes(self.closed.lease), eve.bonds(5_000_000))
        self.double_vote(world, "cat", world.ledger.head.height)
        world.absent = {"dan"}
        for _ in range(6):
            world.block()
        world.block(eve.unbonds(1_000_000), alice.pays(bob, 7))

    @staticmethod
    def double_vote(world: World, name: str, height: int) -> bytes:
        (liar,) = world.actors(name)
        evidence = codec.encode(duplicate_vote(liar.votes(height, COMMITMENT), liar.votes(height, OTHER)))
        world.block(evidence=[evidence])
        return evidence


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def settled(world: World) -> None:
    """Let everything that can still happen by itself happen."""
    for _ in range(4):
        world.block(after_ms=HOUR)


# What is taken along


def test_the_scene_has_all_that_an_export_must_carry(scene: Scene) -> None:
    world = scene.world
    states = [world.deployment(draft.deployment).state for draft in (scene.active, scene.dry, scene.closed)]
    assert states == [DeploymentState.OPEN, DeploymentState.GRACE, DeploymentState.CLOSED]
    assert world.lease(scene.waiting.lease).state == LeaseState.AWAITING
    cat, dan, eve = world.actors("cat", "dan", "eve")
    assert world.stake_behind(cat).tombstoned
    assert world.stake_behind(dan).jailed_until is not None
    assert world.stake_behind(eve).unbonding
    assert set(world.powers()) == {"ann", "ben", "eve"}


def test_every_record_is_kept_to_the_byte_but_for_those_that_are_named(scene: Scene) -> None:
    heir = Heir(scene.world)
    assert kept(heir) == kept(scene.world)
    gone = set(records_of(scene.world)) - set(records_of(heir))
    assert gone
    assert all(key.startswith(LEFT_BEHIND) for key in gone)
    before, after = (world.ledger.state().require(VALIDATORS, ValidatorSets) for world in (scene.world, heir))
    assert after == replace(before, last=())
    assert before.last


def test_the_new_chain_stands_where_the_old_one_stood(scene: Scene) -> None:
    heir, head = Heir(scene.world), scene.world.ledger.head
    assert heir.chain != scene.world.chain
    assert (heir.ledger.head.height, heir.ledger.head.time) == (head.height, head.time)
    assert heir.genesis.initial_height == head.height + 1
    assert heir.powers() == scene.world.powers()
    assert heir.ledger.params == scene.world.ledger.params
    assert heir.block().block.header.height == head.height + 1


def test_a_genesis_with_a_state_survives_its_document(scene: Scene) -> None:
    genesis, _ = heritage(scene.world)
    again = genesis_from(genesis.to_json())
    assert again == genesis
    assert again.chain == genesis.chain
    assert "state" not in scene.world.genesis.to_json(), "the ids of other chains stay as they were"
    assert genesis_from(scene.world.genesis.to_json() | {"state": None}) == scene.world.genesis


def test_exported_again_before_any_block_it_is_the_same(scene: Scene) -> None:
    genesis, records = heritage(scene.world)
    assert heritage(Heir(scene.world)) == (genesis, records)


def test_every_kind_of_record_is_either_carried_or_left_behind_on_purpose() -> None:
    """A record that a later release adds must be thought of here, or an export of it is refused."""
    carried = {
        b"account/",
        b"attestation/",
        b"attestation-expiry/",
        b"ballot/",
        b"proposal/",
        b"proposal-due/",
        b"grant/",
        b"grant-expiry/",
        b"template/",
        b"provider/",
        b"alive/",
        b"deployment/",
        b"lease/",
        b"due/",
        b"live/",
        b"closed/",
        b"retiring/",
        b"stake/",
        b"stake-rank/",
        b"unbonding/",
    }
    made = {name: getattr(records, name) for name in dir(records) if name.startswith("key_")}
    prefixes = {prefix_of(maker) for maker in made.values()}
    assert prefixes == carried | set(LEFT_BEHIND)
    single = {value for name, value in vars(records).items() if name.isupper() and isinstance(value, bytes)}
    assert single == set(SINGLE)


def prefix_of(maker: Any) -> bytes:
    kinds = {name: kind for name, kind in maker.__annotations__.items() if name != "return"}
    numbers = ("int", "bool", "Height", "Millis", "MicroStake", "ProposalNumber")
    key: bytes = maker(**{name: 1 if kind in numbers else bytes(32) for name, kind in kinds.items()})
    return key.partition(b"/")[0] + b"/"


# What goes on


def test_leases_go_on_being_paid_and_settle_and_no_money_is_made_or_lost(scene: Scene) -> None:
    heir = Heir(scene.world)
    (paul,) = heir.actors("paul")
    books, before = books_of(heir), paul.credits
    execution = heir.block(*(heir.by_key[heir.lease(one).provider].withdraws(one) for one in scene.active.leases))
    assert set(codes(execution.events)) == {""}
    assert paul.credits > before
    books.count()
    settled(heir)
    books.count()
    for draft in (scene.active, scene.dry, scene.waiting):
        assert heir.deployment(draft.deployment).state == DeploymentState.CLOSED


def books_of(heir: Heir) -> Bookkeeper:
    """What the new chain began with counts as made."""
    books = Bookkeeper(heir)
    books.made.clear()
    books.made.update(credits=heir.counted.supply.credits, stake=heir.counted.supply.stake)
    return books


def test_everybody_ends_with_what_the_old_chain_would_have_given_them() -> None:
    old = Scene().world
    heir = Heir(old)
    for world in (old, heir):
        settled(world)
    ends = [{name: actor.account for name, actor in world._actors.items()} for world in (old, heir)]
    assert ends[0] == ends[1]


def test_a_lease_that_awaits_its_hand_off_is_activated_with_a_receipt_for_the_new_chain(scene: Scene) -> None:
    heir = Heir(scene.world)
    bob, petra = heir.actors("bob", "petra")
    old_bob, _ = scene.world.actors("bob", "petra")
    lease = scene.waiting.lease
    assert heir.code(petra.activates(lease, receipt_of=old_bob)) == "signature.bad"
    assert heir.code(petra.activates(lease, receipt_of=bob)) == ""


def test_nothing_signed_for_the_old_chain_counts_on_the_new_one(scene: Scene) -> None:
    """So ids of transactions and orders that were used need not be remembered."""
    world, heir = scene.world, Heir(scene.world)
    alice, bob, paul = world.actors("alice", "bob", "paul")
    now = Millis(world.now + 1_000)
    order = alice.leases((paul, RATE), deposit=10_000)
    for draft in (alice.pays(bob, 1), order):
        with pytest.raises(Refused, match=r"tx\.chain"):
            heir.ledger.check_tx(world.sign(draft, at=now), now=now)
    (alice_there,) = heir.actors("alice")
    for message in (order.messages, scene.active.messages):
        assert heir.code(alice_there.does(*message)) == "signature.bad"


def test_validators_that_are_jailed_or_convicted_stay_so_and_evidence_of_the_old_chain_is_of_no_account(
    scene: Scene,
) -> None:
    heir = Heir(scene.world)
    dan, cat = heir.actors("dan", "cat")
    heir.absent = set()
    assert heir.code(dan.does(Unjail())) == "stake.jailed"
    assert heir.code(cat.bonds(1_000_000)) == "stake.tombstoned"
    (ann,) = scene.world.actors("ann")
    height = scene.world.ledger.head.height
    evidence = codec.encode(duplicate_vote(ann.votes(height, COMMITMENT), ann.votes(height, OTHER)))
    with pytest.raises(Refused, match=r"signature\.bad"):
        heir.ledger.check_evidence(evidence, now=heir.now)
    heir.block(after_ms=HOUR)
    assert heir.code(dan.does(Unjail())) == ""
    for _ in range(3):
        heir.block()
    assert "dan" in heir.powers()


def test_stake_on_its_way_out_is_free_when_its_time_has_come(scene: Scene) -> None:
    heir = Heir(scene.world)
    (eve,) = heir.actors("eve")
    before = eve.stake
    for _ in range(6):
        heir.block(after_ms=HOUR)
    assert eve.stake == before + 1_000_000
    assert not heir.stake_behind(eve).unbonding


def test_time_may_be_given_but_not_turned_back(scene: Scene) -> None:
    late = Millis(scene.world.now + 2 * HOUR)
    heir = Heir(scene.world, time=late)
    assert heir.now == late
    settled(heir)
    with pytest.raises(Refused, match=r"genesis\.time"):
        heritage(scene.world, time=Millis(scene.world.now - 1))


# Beginning


def test_records_that_come_to_another_root_begin_nothing(scene: Scene) -> None:
    genesis, records = heritage(scene.world)
    for broken in (records[:-1], [*records, (b"zzz", b"")], [(records[0][0], b"\x00"), *records[1:]]):
        with pytest.raises(Refused, match=r"genesis\.state"):
            begun(genesis, broken)


def begun(genesis: Genesis, records: list[Record]) -> MemoryStore:
    store = MemoryStore()
    for writes in state_writes(genesis, records, store):
        store.apply(writes)
    return store


def test_batches_of_any_size_come_to_the_same_store(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = entries(Heir(scene.world).store)
    monkeypatch.setattr("fondaco.protocol.limits.GENESIS_BATCH_RECORDS", 3)
    monkeypatch.setattr("fondaco.consensus.ledger.carrying.PAGE_RECORDS", 2)
    assert entries(Heir(scene.world).store) == whole


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (5, "genesis.state is not an object"),
        ({"records": 1}, "genesis.state.root is missing"),
        ({"records": 1, "root": "00" * 31}, "not a hash"),
        ({"records": 1, "root": "zz" * 32}, "not a hash"),
        ({"records": 1, "root": "AB" * 32}, "not a hash"),
        ({"records": -1, "root": "00" * 32}, "genesis.state.records"),
        ({"records": 1, "root": "00" * 32, "file": "x"}, "unknown fields: file"),
    ],
)
def test_a_state_that_is_none_says_where(scene: Scene, state: object, says: str) -> None:
    with pytest.raises(Refused) as caught:
        genesis_from(heritage(scene.world)[0].to_json() | {"state": state})
    assert caught.value.code == "genesis.malformed"
    assert says in caught.value.message


def test_a_genesis_lists_its_accounts_or_has_a_state(scene: Scene) -> None:
    genesis, _ = heritage(scene.world)
    account = GenesisAccount(owner=scene.world.validator.key, credits=MicroCredits(1), stake=MicroStake(0))
    with pytest.raises(Refused, match=r"genesis\.malformed"):
        replace(genesis, accounts=(account,)).check()


def test_the_state_is_part_of_the_chain_id(scene: Scene) -> None:
    genesis, _ = heritage(scene.world)
    assert genesis.state is not None
    others: list[Genesis] = [
        replace(genesis, state=replace(genesis.state, root=OTHER)),
        replace(genesis, state=GenesisState(records=1, root=genesis.state.root)),
        replace(genesis, state=None),
    ]
    assert len({genesis.chain, *(other.chain for other in others)}) == 4
    with pytest.raises(AssertionError):
        genesis_writes(genesis)
