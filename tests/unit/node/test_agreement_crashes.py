"""The engine's host over real files, crashed between any two effects and robbed of its journal."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import trio
import trio.testing
from tests.support.court import PATIENT, Court, Life, Wire, alone, crashing, living, pay
from tests.support.network import until

from fondaco.protocol.agreement import SignedVote, VoteKind
from fondaco.protocol.scalars import Hash

EFFECTS_OF_TWO_BLOCKS = 60
"""More than two heights of a validator alone have; the test checks that."""


@pytest.mark.parametrize("crashed_after", [*range(24), EFFECTS_OF_TWO_BLOCKS])
async def test_a_crash_between_any_two_effects_loses_and_contradicts_nothing(
    tmp_path: Path, crashed_after: int
) -> None:
    town, wire = alone(), Wire()
    signer = town.signers()[0]
    first = Life(town, tmp_path, wire, signer=signer)
    first.crash_before_effect(crashed_after)
    pay(town, first)
    with trio.move_on_after(0.3), crashing():
        await first.agreement.run()
    if crashed_after == EFFECTS_OF_TWO_BLOCKS:
        assert first.effects < crashed_after, "so every effect of a block was crashed at"
    height = first.chain.head.height
    first.drop()
    async with living(Life(town, tmp_path, wire, signer=signer)) as second:
        assert second.chain.head.height == height
        pay(town, second, 2)
        await until(lambda: second.chain.head.height >= height + 1 and not len(second.mempool))
    assert wire.contradictions() == 0


async def test_a_crash_while_one_recovers_is_recovered_from(tmp_path: Path) -> None:
    town, wire = alone(), Wire()
    signer = town.signers()[0]
    for number in (9, 1, 2, 3):
        life = Life(town, tmp_path, wire, signer=signer)
        life.crash_before_effect(number)
        with crashing():
            await life.agreement.run()
        life.drop()
    async with living(Life(town, tmp_path, wire, signer=signer)) as life:
        await until(lambda: life.chain.head.height >= 1)
    assert wire.contradictions() == 0


@pytest.fixture
def court(tmp_path: Path) -> Court:
    return Court(tmp_path, PATIENT)


async def test_a_restart_in_the_middle_of_a_height_repeats_the_same_vote_and_goes_on(court: Court) -> None:
    block = court.block()
    value = block.header.hash()
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(block))
    async with living(court.life()) as life:
        await trio.testing.wait_all_tasks_blocked()
        assert court.said(VoteKind.PREVOTE) == [value, value]
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others[:2]))
        assert life.chain.head.hash == value
    assert court.wire.contradictions() == 0


async def test_what_the_sign_state_refuses_is_never_said(court: Court, caplog: pytest.LogCaptureFixture) -> None:
    """Something else signed with our key meanwhile."""
    caplog.set_level(logging.WARNING)
    life = court.life()
    earlier = court.vote(court.us, VoteKind.PREVOTE, Hash(b"e" * 32)).vote
    block = court.block()
    value = block.header.hash()
    async with living(life):
        await trio.testing.wait_all_tasks_blocked()
        life.sign_state.sign(court.us, court.town.chain, earlier)
        await court.tell(life, court.proposal(block))
        assert court.said(VoteKind.PREVOTE) == []
        assert "sign.conflict" in caplog.text
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others))
        assert court.said(VoteKind.PRECOMMIT) == [value], "a later step is free"


async def test_a_validator_that_lost_its_journal_is_silent_at_the_height_it_has_forgotten(
    court: Court, caplog: pytest.LogCaptureFixture
) -> None:
    async with living(court.life()) as life:
        block = court.block()
        value = block.header.hash()
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, value) for one in court.others[:2]))
        assert court.said(VoteKind.PRECOMMIT) == [value], "locked"
    shutil.rmtree(life.journal.directory)
    said = len(court.wire.sent)
    async with living(court.life()) as life:
        await court.tell(life, court.proposal(block))
        await court.tell(life, *(court.vote(one, VoteKind.PREVOTE, None) for one in court.others))
        assert "is lost" in caplog.text
        assert [one for one in court.wire.sent[said:] if isinstance(one, SignedVote)] == []
        await court.tell(life, *(court.vote(one, VoteKind.PRECOMMIT, value) for one in court.others))
        assert life.chain.head.hash == value, "it follows the others, and then forgets nothing any more"
        assert life.agreement._voice is not None
        assert life.agreement._voice.silent_through == 1 < life.chain.head.height + 1


async def test_a_journal_that_cannot_be_written_stops_the_node(tmp_path: Path) -> None:
    town = alone()
    life = Life(town, tmp_path, Wire(), signer=town.signers()[0])

    class Full(Exception):
        pass

    def append(payload: bytes) -> None:
        raise Full

    life.journal.append = append  # type: ignore[method-assign]
    with pytest.RaisesGroup(Full, flatten_subgroups=True):
        await life.agreement.run()
    assert life.chain.head.height == 0
    assert life.sign_state.last is None
    life.stop()
