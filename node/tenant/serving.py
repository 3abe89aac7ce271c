"""Whether a workload that its provider says is up serves its tenant: tried at once after its activation.

What the tenant loses to a provider that only says so is bounded by how long this takes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from fondaco.node.tenant import bounds
from fondaco.protocol import manifest
from fondaco.protocol.errors import FondacoError, Refused

if TYPE_CHECKING:
    from fondaco.node.tenant.deployment import LeaseHandle

log = logging.getLogger("fondaco.tenant")
TRIES = 3
"""At least so many failed, whatever the time they took."""
TRY_TIMEOUT_S = 5
PAUSE_S = 0.05
HTTP_PATIENCE_S = 30
"""How long a port that accepts connections is asked for an answer in HTTP, which is not owed."""
NOT_SERVING = "lease.not_serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the first contact was, as people read it."""

    told: str
    answered: bool
    """Whether anything came from the workload itself."""


async def probe(lease: LeaseHandle) -> Seen:
    """Reach the workload through the channel, as its tenant will.

    Raises `Refused` `lease.not_serving` once it was tried in vain for `SERVES_WITHIN_MS`, and three times.
    """
    began, failed = trio.current_time(), 0
    while True:
        try:
            with trio.fail_after(TRY_TIMEOUT_S):
                told = await _touch(lease)
        except (FondacoError, trio.TooSlowError) as error:
            failed += 1
            why = str(error) or f"nothing came in {TRY_TIMEOUT_S} s"
            log.debug("not yet: %s", why)
            if failed >= TRIES and trio.current_time() - began >= bounds.SERVES_WITHIN_MS / 1_000:
                raise Refused(
                    NOT_SERVING, f"its provider says that it runs, and it does not serve: {why}"
                ) from error
            await trio.sleep(PAUSE_S)
        else:
            return await _look(lease) if told is None else Seen(told=told, answered=False)


async def _touch(lease: LeaseHandle) -> str | None:
    """One try: a connection to its port; where none takes any, how its provider says that it is."""
    if not any(service.expose for service in lease.group.services):
        return f"is {(await lease.status()).phase}; it exposes no port to try"
    service, expose = lease.main_expose()
    if expose.proto != manifest.TCP:
        return f"is {(await lease.status()).phase}; {service}:{expose.port} takes datagrams: not tried"
    async with lease.forward(service, expose.port):
        return None


async def _look(lease: LeaseHandle) -> Seen:
    """What a port that takes connections answers in HTTP, if it is to."""
    service, expose = lease.main_expose()
    with trio.move_on_after(HTTP_PATIENCE_S):
        while expose.is_ingress:
            try:
                with trio.fail_after(TRY_TIMEOUT_S):
                    status, body = await lease.request("/")
            except trio.TooSlowError:
                break  # what is silent for so long does not speak HTTP
            except FondacoError as error:
                if error.code == "http.malformed":
                    break
                log.debug("no answer yet: %s", error)
                await trio.sleep(PAUSE_S)
            else:
                told = f"answers {status} with {len(body)} bytes on {service}:{expose.port}"
                return Seen(told=told, answered=True)
    return Seen(told=f"accepts connections on {service}:{expose.port}", answered=True)
