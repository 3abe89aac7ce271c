"""A provider whose retirement is on the ledger: it answers, but bids no more, and goes on serving."""

from __future__ import annotations

from pathlib import Path

from tests.support.providers import hand_off, make_lease, make_order, open_site

from fondaco.protocol.market import SignedBid, SignedDecline
from fondaco.provider.gateway import Gateway


async def test_a_retiring_provider_declines_and_serves_what_it_has_also_after_a_restart(tmp_path: Path) -> None:
    async with open_site(tmp_path) as site:
        lease = make_lease(make_order())
        site.chain.put(lease)
        async with site.running() as agent:
            async for _ in site.client(Gateway(agent), lease).put_manifest(*hand_off(lease)):
                pass
            site.market.place(make_order(salt=1))
            assert isinstance((await site.market.wait_answers(1))[0], SignedBid)
            site.chain.retires = True
            site.market.place(make_order(salt=2))
            answer = (await site.market.wait_answers(2))[1]
            assert isinstance(answer, SignedDecline)
            assert [reason.dimension for reason in answer.decline.reasons] == ["retiring"]
            assert len(await site.runtime.list()) == 1
        async with site.running() as agent:
            assert agent.work(lease.id) is not None
            site.market.place(make_order(salt=3))
            assert isinstance((await site.market.wait_answers(3))[2], SignedDecline)
