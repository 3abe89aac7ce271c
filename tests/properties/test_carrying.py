"""Any history can be carried to a new chain: the same records, the same money, and the same again from there."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.heirs import Heir, committed, heritage, kept
from tests.support.ledger import FREE, HOUR, MINUTE, Actor, Draft, World
from tests.support.ledger_fuzz import Fuzz

from fondaco.consensus import merkle
from fondaco.consensus.ledger.carrying import Record
from fondaco.consensus.ledger.genesis import Genesis
from fondaco.consensus.ledger.recount import count_again
from fondaco.protocol import codec
from fondaco.protocol.errors import Refused
from fondaco.protocol.evidence import duplicate_vote
from fondaco.protocol.messages import Unjail
from fondaco.protocol.records import SUPPLY, Lease, Supply, key_lease
from fondaco.protocol.scalars import Hash, LeaseId


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), blocks=st.integers(0, 25), after=st.integers(1, 3))
def test_any_history_goes_on_as_another_chain(seed: int, blocks: int, after: int) -> None:
    fuzz = Fuzz(seed)
    for _ in range(blocks):
        fuzz.block(12)
    old = fuzz.world
    heir = Heir(old)
    assert kept(heir) == kept(old)
    assert heir.counted.supply == old.ledger.state().require(SUPPLY, Supply)
    assert heritage(heir) == heritage(old)
    for world in (old, heir):  # with no more transactions both must come to the same
        world.judged = False
        for _ in range(after):
            world.block(after_ms=HOUR)
    ends = [{name: actor.account for name, actor in world._actors.items()} for world in (old, heir)]
    assert ends[0] == ends[1]
    again = Heir(heir)
    assert kept(again) == kept(heir)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_no_byte_of_a_record_can_be_changed(data: st.DataObject) -> None:
    genesis, records = HISTORY
    place = data.draw(st.integers(0, len(records) - 1))
    key, value = records[place]
    at, bit = data.draw(st.integers(0, len(key) + len(value) - 1)), data.draw(st.integers(0, 7))
    both = bytearray(key + value)
    both[at] ^= 1 << bit
    changed = [*records[:place], (bytes(both[: len(key)]), bytes(both[len(key) :])), *records[place + 1 :]]
    assert refusal(genesis, changed) in ("genesis.state", "genesis.record")
    # Where the document commits to it, it is judged all the same, and never an error of our own.
    assert refusal(committed(genesis, sorted(changed)), sorted(changed)) in CODES


CODES = ("", "genesis.state", "genesis.record", "genesis.supply", "genesis.differs")


def refusal(genesis: Genesis, records: list[Record]) -> str:
    try:
        count_again(genesis, records)
    except Refused as refused:
        return refused.code
    return ""


def _history() -> tuple[Genesis, list[Record]]:
    fuzz = Fuzz(11)
    for _ in range(15):
        fuzz.block(10)
    return heritage(fuzz.world)


HISTORY = _history()


@given(records=st.dictionaries(st.binary(max_size=4), st.binary(max_size=4), max_size=40))
def test_a_root_is_the_same_with_and_without_nodes(records: dict[bytes, bytes]) -> None:
    nodes = merkle.update(lambda _: None, records)
    root = merkle.root_of({path: node for path, node in nodes.items() if node is not None}.get)
    assert merkle.root_over(records.items()) == root


ACTIONS = st.sampled_from(("bond", "unbond", "leave", "lease", "activate", "shorten", "lie", "unjail", "rest"))


@settings(max_examples=40, deadline=None)
@given(
    story=st.lists(st.tuples(ACTIONS, st.integers(0, 3), st.sampled_from((1, 1_000, 20_000, HOUR))), max_size=30)
)
def test_any_history_of_validators_and_parameters_goes_on_too(story: list[tuple[str, int, int]]) -> None:
    world = World("eve", "paul", *FOUR, validators=FOUR, authority="eve", **HASTY)
    world.judged = False
    world.block(*(actor.registers() for actor in world.actors("paul", "eve")))
    opened: list[LeaseId] = []
    for action, who, after_ms in story:
        world.ahead_ms = after_ms
        tell(world, action, world.actors(*FOUR)[who], after_ms, opened)
    heir = Heir(world)
    assert kept(heir) == kept(world)
    assert heritage(heir) == heritage(world)
    for each in (world, heir):
        each.absent = set()
        each.judged = False
        for _ in range(4):
            each.block(after_ms=HOUR)
    ends = [{name: actor.account for name, actor in each._actors.items()} for each in (world, heir)]
    assert ends[0] == ends[1]


FOUR = {"ann": 10, "ben": 9, "cat": 8, "dan": 7}
HASTY = FREE | {"absence_blocks": 4, "absence_ms": 1_000, "jail_ms": 20_000, "unbonding_ms": 60_000}
HASTY |= {"evidence_blocks": 3, "evidence_ms": 1_000, "handoff_window_ms": 5 * MINUTE, "grace_ms": MINUTE}


def tell(world: World, action: str, actor: Actor, after_ms: int, opened: list[LeaseId]) -> None:
    """One block of a story; what is refused in it is no matter."""
    (paul, eve) = world.actors("paul", "eve")
    evidence: list[bytes] = []
    drafts: list[Draft] = []
    match action:
        case "bond":
            drafts = [actor.bonds(1_500_000)]
        case "unbond":
            drafts = [actor.unbonds(4_000_000)]
        case "leave":
            world.absent = set() if world.absent else {actor.name}
        case "lease":
            drafts = [actor.leases((paul, 3_600_000), (eve, 360_000), deposit=500_000)]
            opened.extend(drafts[0].leases)
        case "activate" if opened:
            lease = world.ledger.state().get(key_lease(opened[0]), Lease)
            if lease is not None:
                tenant, provider = world.by_key[lease.tenant], world.by_key[lease.provider]
                drafts = [provider.activates(lease.id, receipt_of=tenant), provider.withdraws(lease.id)]
                opened.pop(0)
        case "shorten":
            drafts = [eve.sets(handoff_window_ms=5_000 + after_ms, grace_ms=after_ms)]
        case "lie":
            height = world.ledger.head.height
            votes = [actor.votes(height, what) for what in (Hash(bytes(32)), Hash(b"x" * 32))]
            evidence = [codec.encode(duplicate_vote(*votes))]
        case "unjail":
            drafts = [actor.does(Unjail())]
    world.keep(world.propose(*drafts, after_ms=after_ms, evidence=evidence))
