"""Several replicas of one SDL file, each at another provider and paid from an escrow of its own.

    done = await replicas.deploy(tenant, text, name="app", count=3, spread="region", report=print)
    done.got, done.lacking

They are leased one after the other, since where the next one may go depends on those before, and handed over all
at once. What cannot be had leaves the others as they are: the service is on file, and the same call again brings
up what is lacking.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence, Set
from dataclasses import dataclass, replace

import trio

from fondaco.node.tenant import bounds, owning, services
from fondaco.node.tenant.choosing import CHEAPEST, Choice, as_choice, lasting
from fondaco.node.tenant.client import Tenant
from fondaco.node.tenant.deployment import Deployment, LeaseHandle
from fondaco.node.tenant.plans import Plan
from fondaco.node.tenant.progress import Progress, Report, quiet
from fondaco.node.tenant.services import REGION, Service
from fondaco.protocol import addresses, sdl
from fondaco.protocol.errors import FondacoError, Refused
from fondaco.protocol.market import deployment_id
from fondaco.protocol.query import BIDS, And, Query
from fondaco.protocol.query.fields import Field
from fondaco.protocol.query.syntax import Comparison, Not, Pattern
from fondaco.protocol.records import Deployment as DeploymentRecord
from fondaco.protocol.records import DeploymentState, LeaseState, Provider, key_deployment, key_provider
from fondaco.protocol.resources import Group
from fondaco.protocol.scalars import Millis, PublicKey
from fondaco.protocol.selection import Candidate, Knowledge, Score, Strategy
from fondaco.protocol.selection.facts import REGION as REGION_KEY

Confirm = Callable[[Plan, int], None]
"""Asked with each plan, and how many like it are to come with it, before its money is spent; may raise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What came of it."""

    service: Service
    got: dict[str, Deployment]
    """Replicas that run now and did not before."""
    lacking: dict[str, FondacoError]
    """Those that do not run, and why."""


def _yes(plan: Plan, count: int) -> None:
    """Nobody is asked."""


async def deploy(
    tenant: Tenant,
    text: bytes,
    *,
    name: str,
    count: int,
    spread: str = services.PROVIDER,
    select: str | Choice = CHEAPEST,
    deposit: int | None = None,
    only: str = "",
    confirm: Confirm = _yes,
    report: Report = quiet,
) -> Done:
    """Bring up what is lacking of `count` replicas, or only one of them; `deposit`, in ucredit, is that of each.

    Raises `SdlError`, or `Refused`: `service.count`, `service.name`, `service.complete`,
    `keys.not_owner`, or what `confirm` does.
    What one replica fails of is told in what is returned.
    """
    if not 1 <= count <= bounds.SERVICE_REPLICAS or spread not in services.SPREADS:
        raise Refused("service.count", f"1 to {bounds.SERVICE_REPLICAS} replicas, spread over provider or region")
    choice, known = as_choice(select), services.load(tenant.home, name)
    sdl.parse(text)
    service = replace(
        known or Service(name=name),
        count=count,
        spread=spread,
        select=lasting(choice.name),
        where="" if choice.where is None else str(choice.where),
        vantages=choice.vantage_files,
        deposit=deposit,
    )
    owning.check_service(tenant, service)
    over = {one for one, found in (await deployments(tenant, service)).items() if found is None}
    wanted = [only] if only else [service.replica(number) for number in range(count)]
    missing = [one for one in wanted if one in over or one not in service.replicas]
    if not missing:
        raise Refused("service.complete", f"{name} has its {count} replicas", hint=f"fondaco status {name}")
    services.save(tenant.home, service)
    services.save_sdl(tenant.home, name, text)
    opened, lacking = await _open(tenant, service, missing, text, choice, confirm, report)
    service = services.load(tenant.home, name) or service
    got: dict[str, Deployment] = {}

    async def hand_over(replica: str, deployment: Deployment) -> None:
        try:
            await deployment.hand_over(_named(replica, report))
        except FondacoError as error:
            lacking[replica] = error
        else:
            got[replica] = deployment

    async with trio.open_nursery() as nursery:
        for replica, deployment in opened.items():
            nursery.start_soon(hand_over, replica, deployment)
    return Done(service=service, got=dict(sorted(got.items())), lacking=dict(sorted(lacking.items())))


async def _open(
    tenant: Tenant,
    service: Service,
    missing: Sequence[str],
    text: bytes,
    choice: Choice,
    confirm: Confirm,
    report: Report,
) -> tuple[dict[str, Deployment], dict[str, FondacoError]]:
    """Lease what is missing, one after the other."""
    opened: dict[str, Deployment] = {}
    lacking: dict[str, FondacoError] = {}
    for number, replica in enumerate(missing):
        said = _named(replica, report)
        try:
            used = await providers(tenant, service)
            regions = await regions_of(tenant, used) if service.spread == REGION else None
            where = apart(choice, used, regions)
            plan = await tenant.plan(text, deposit=service.deposit, select=where, report=said)
            confirm(plan, len(missing) - number)
            identity = deployment_id(plan.draft.id)
            services.save(tenant.home, service.having(replica, identity))  # before the money moves
            try:
                opened[replica] = await tenant.open(plan, name=replica, report=said)
            except Refused:
                services.save(tenant.home, service)
                raise
            service = service.having(replica, identity)
        except FondacoError as error:
            lacking[replica] = error
            said(Progress("lacking", str(error)))
            if error.code == "bids.none":  # nor will anybody serve the next one, who may be at fewer places still
                lacking.update(dict.fromkeys(missing[number:], error))
                break
    return opened, lacking


def _named(replica: str, report: Report) -> Report:
    return lambda progress: report(Progress(progress.step, f"{replica}: {progress.detail}"))


async def deployments(tenant: Tenant, service: Service) -> dict[str, DeploymentRecord | None]:
    """What the ledger holds of each replica; None where it has ended, or is not known."""
    found: dict[str, DeploymentRecord | None] = {}
    for name, identity in service.replicas.items():
        record = await tenant.light.record(key_deployment(identity), DeploymentRecord)
        found[name] = record if record is not None and record.state is not DeploymentState.CLOSED else None
    return found


async def providers(tenant: Tenant, service: Service, *, without: str = "") -> set[PublicKey]:
    """Who serves replicas of a service, one of them left out, by what the ledger says of their leases."""
    found = set[PublicKey]()
    for name, record in services.files(service, tenant.folder).items():
        for file in record.leases if name != without else ():
            lease = await LeaseHandle(Deployment(tenant, record), file).record()
            if lease is not None and lease.state is not LeaseState.CLOSED:
                found.add(lease.provider)
    return found


async def regions_of(tenant: Tenant, keys: Collection[PublicKey]) -> set[str]:
    """Where these providers say that they stand; those that say nothing stand nowhere in particular."""
    found = set[str]()
    for key in sorted(keys):
        record = await tenant.light.record(key_provider(key), Provider)
        found |= {one.value for one in (record.attributes if record else ()) if one.key == REGION_KEY}
    return found


def apart(choice: Choice, used: Collection[PublicKey], regions: Collection[str] | None = None) -> Choice:
    """The choice with what the other replicas ask of it: none of these providers, and none of these regions.

    Where regions are asked for, a provider that does not say where it stands is not taken.
    """
    wanted: list[Query] = [] if choice.where is None else [choice.where]
    if used:
        wanted.append(_none_of("provider", [addresses.encode(key) for key in sorted(used)]))
    if regions is not None:
        wanted.append(Comparison(field=_field(REGION_KEY), sign="known"))
    if regions:
        wanted.append(_none_of(REGION_KEY, sorted(regions)))
    return replace(choice, where=And(tuple(wanted)) if wanted else None)


def _none_of(name: str, values: Sequence[str]) -> Query:
    patterns = tuple(Pattern(text=one.lower(), glob=False) for one in values)
    return Not(Comparison(field=_field(name), sign="in", values=patterns))


def _field(name: str) -> Field:
    field = BIDS.find(name)
    assert field is not None, "bids are asked for their provider and its region"
    return field


def rather(choice: Choice, *, regions: Set[str], shunned: Set[PublicKey]) -> Choice:
    """The choice, but what is in none of these regions, and none of these providers, before all else."""

    def strategy(now: Millis) -> Strategy:
        return _preferring(choice.strategy(now), regions, shunned)

    return replace(choice, name=f"{choice.name}, elsewhere", strategy=strategy)


def _preferring(inner: Strategy, regions: Set[str], shunned: Set[PublicKey]) -> Strategy:
    def strategy(group: Group, candidates: Sequence[Candidate], known: Knowledge) -> list[Score]:
        scores = []
        for one, score in zip(candidates, inner(group, candidates, known), strict=True):
            near, failed = known.of(one.provider).region in regions, one.provider in shunned
            told = "another replica is in its region, " * near + "it failed not long ago, " * failed
            scores.append(Score(key=(int(failed), int(near), *score.key), reason=told + score.why()))
        return scores

    return strategy
