"""`fondaco route` and `supervise`: the way to the replicas of a service, and what keeps them up."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fondaco.node.cli.completion import lease_argument
from fondaco.node.cli.output import json_option, say, tenant_home

if TYPE_CHECKING:
    from fondaco.node.tenant.balancing import Change
    from fondaco.node.tenant.client import Tenant
    from fondaco.node.tenant.routing import Router, RouteSettings
    from fondaco.node.tenant.supervising import Event
    from fondaco.node.tenant.supervision import Settings

STICKY = ("none", "address", "cookie")
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """How a service is supervised, as it was typed."""

    settings: Settings
    every_s: float
    path: str


def watched(function: Callable[..., None]) -> Callable[..., None]:
    """The options of a supervisor."""
    options = [
        click.option(
            "--every",
            type=click.FloatRange(0.2, 3_600),
            default=5.0,
            show_default=True,
            help="Seconds between looks.",
        ),
        click.option(
            "--away",
            type=click.FloatRange(0.5, 86_400),
            default=15.0,
            show_default=True,
            help="Seconds without a word after which a provider is dead, and its lease goes to another one.",
        ),
        click.option(
            "--unhealthy",
            type=click.FloatRange(1, 86_400),
            default=120.0,
            show_default=True,
            help="Seconds that a provider has to bring back a workload that does not answer.",
        ),
        click.option(
            "--runway",
            metavar="MIN..MAX",
            default="",
            help="Top up escrows that last less than MIN, to MAX: 1h..6h. Needs --budget.",
        ),
        click.option(
            "--budget",
            type=click.IntRange(min=1),
            default=None,
            help="Ucredit a day for top-ups and new deposits.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def watch_of(*, every: float, away: float, unhealthy: float, runway: str, budget: int | None, path: str) -> Watch:
    from fondaco.node.tenant.supervision import Settings

    if runway and budget is None:
        raise click.UsageError("--runway spends money: say how much a day with --budget UCREDIT")
    settings = Settings(
        away_ms=round(away * 1_000),
        unhealthy_ms=round(unhealthy * 1_000),
        runway_ms=_window(runway) if runway else None,
        budget=budget or 0,
    )
    return Watch(settings=settings, every_s=every, path=path)


def _window(text: str) -> tuple[int, int]:
    from fondaco.protocol.query.fields import Kind, read_amount

    low, _, high = text.partition("..")
    least, most = read_amount(Kind.TIME, low), read_amount(Kind.TIME, high)
    if least is None or most is None or not 0 < least <= most:
        raise click.UsageError(f"--runway {text}: write it as 1h..6h, the shorter one first")
    return int(least), int(most)


@click.command()
@lease_argument
@tenant_home
@watched
@click.option("--health", default="/", show_default=True, help="What the workload is asked for over HTTP.")
@json_option
def supervise(lease: str, home: Path, health: str, as_json: bool, **how: Any) -> None:
    """Keep the replicas of LEASE up until Ctrl-C: watch them, replace what is dead, top up what runs dry.

    LEASE is a name given at `deploy`. With --json, one object a line for each thing that happens. It can be killed
    and started again at any time; one at a time supervises a service.
    """
    from fondaco.node.cli.tenant import run

    run(_supervise, lease, home, watch_of(path=health, **how), as_json)


async def _supervise(name: str, home: Path, watch: Watch, as_json: bool) -> None:
    import trio

    from fondaco.node.cli.tenant import connected

    async with connected(home) as tenant, trio.open_nursery() as nursery:
        await nursery.start(_watch, tenant, name, watch, as_json)
        say(f"watching {name}; Ctrl-C ends it, and leaves everything as it is")
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                break
        nursery.cancel_scope.cancel()


async def _watch(tenant: Tenant, name: str, watch: Watch, as_json: bool, task_status: Any) -> None:
    from fondaco.node.tenant.supervising import Supervisor

    def report(event: Event) -> None:
        _line(event.to_json(), as_json, f"{event.replica:<12} {event.kind:<12} {event.detail}")

    supervisor = Supervisor(tenant, name, watch.settings, every_s=watch.every_s, path=watch.path, report=report)
    async with supervisor:
        task_status.started()
        await supervisor.run()


def _line(value: dict[str, Any], as_json: bool, text: str) -> None:
    click.echo(json.dumps(value) if as_json else text)
    sys.stdout.flush()


@click.command()
@lease_argument
@tenant_home
@click.option(
    "--listen", default="127.0.0.1:8000", show_default=True, metavar="HOST:PORT", help="Port 0 is any free one."
)
@click.option("--service", default="", help="Which service of the SDL; the one open to the world unless given.")
@click.option("--port", type=click.IntRange(1, 65_535), default=None, help="Port in the workload.")
@click.option(
    "--http/--tcp",
    "http",
    default=None,
    help="Pass on requests, or connections; by what the port is unless given.",
)
@click.option(
    "--sticky",
    type=click.Choice(STICKY),
    default="none",
    show_default=True,
    help="Bring a client back to the same replica, by its address or by a cookie.",
)
@click.option(
    "--weight", "weights", multiple=True, metavar="REPLICA=N", help="Its share, 1 unless given; 0 for a spare one."
)
@click.option("--health", default="/", show_default=True, help="What replicas are probed with over HTTP.")
@click.option(
    "--drain",
    type=click.FloatRange(0, 3_600),
    default=10.0,
    show_default=True,
    help="Seconds that connections have to end at Ctrl-C.",
)
@click.option(
    "--count",
    type=click.FloatRange(0.1, 3_600),
    default=5.0,
    show_default=True,
    help="Seconds between two lines of counters with --json.",
)
@click.option("--supervise", "supervised", is_flag=True, help="Keep the replicas up as well: fondaco supervise.")
@watched
@json_option
def route(lease: str, home: Path, supervised: bool, as_json: bool, **how: Any) -> None:
    """Listen, and pass requests on to whichever replica of LEASE is well, near and idle, until Ctrl-C.

    LEASE is a name given at `deploy`. With --json, one object a line: where it listens, changes, and counters.
    """
    from fondaco.node.cli.tenant import run
    from fondaco.node.tenant.balancing import parse_weights

    try:
        weights = parse_weights(how["weights"])
    except ValueError as error:
        raise click.UsageError(f"--weight {error}: write REPLICA=N, N up to 1000") from None
    host, _, port = how["listen"].rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise click.UsageError(f"--listen {how['listen']}: write HOST:PORT")
    spoken = {one: how[one] for one in ("every", "away", "unhealthy", "runway", "budget")}
    watch = watch_of(path=how["health"], **spoken) if supervised else None
    run(
        _route,
        lease,
        home,
        (host.strip("[]") or "127.0.0.1", int(port)),
        how | {"weights": weights},
        watch,
        as_json,
    )


async def _route(
    name: str, home: Path, listen: tuple[str, int], how: dict[str, Any], watch: Watch | None, as_json: bool
) -> None:
    import trio

    from fondaco.node.cli.tenant import connected
    from fondaco.node.tenant.routing import Router
    from fondaco.node.tenant.upstreams import follow

    def report(change: Change) -> None:
        told = {"event": "health", "replica": change.replica, "health": change.health.value}
        _line(told, as_json, f"{change.replica:<12} is {change.health.value}")

    async with connected(home) as tenant, trio.open_nursery() as nursery:
        router = Router(_settings(tenant, name, how), report=report)

        async def following(task_status: Any) -> None:
            await follow(
                tenant,
                name,
                router.update,
                of_service=how["service"],
                port=how["port"] or 0,
                task_status=task_status,
            )

        await nursery.start(following)
        port = await nursery.start(router.serve, *listen)
        kind = "http" if router.settings.http else "tcp"
        text = f"{kind}://{listen[0]}:{port} -> {', '.join(router.upstreams)}"
        told = {
            "event": "listening",
            "host": listen[0],
            "port": port,
            "mode": kind,
            "replicas": [*router.upstreams],
        }
        _line(told, as_json, text)
        if watch is not None:
            await nursery.start(_watch, tenant, name, watch, as_json)
        if as_json:
            nursery.start_soon(_count, router, how["count"])
        await _until_told(router, how["drain"])
        _line({"event": "counters", **router.figures()}, as_json, _summary(router))
        nursery.cancel_scope.cancel()


async def _until_told(router: Router, patience_s: float) -> None:
    """At the first signal the router drains, a second one cuts that short."""
    import trio

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            break
        say(f"draining {router.open} connections; Ctrl-C again to cut them off")
        async with trio.open_nursery() as nursery:

            async def again() -> None:
                async for _ in signals:
                    break
                nursery.cancel_scope.cancel()

            nursery.start_soon(again)
            if not await router.drain(patience_s):
                say(f"{router.open} connections are cut off")
            nursery.cancel_scope.cancel()


async def _count(router: Router, every_s: float) -> None:
    import trio

    while True:
        await trio.sleep(every_s)
        _line({"event": "counters", **router.figures()}, True, "")


def _summary(router: Router) -> str:
    counts = router.counts
    return f"{counts.requests} served, {counts.retried} of them tried elsewhere as well, {counts.failed} failed"


def _settings(tenant: Tenant, name: str, how: dict[str, Any]) -> RouteSettings:
    from fondaco.node.tenant import owning, services
    from fondaco.node.tenant.deployment import Deployment, LeaseHandle
    from fondaco.node.tenant.routing import RouteSettings

    http = how["http"]
    if http is None:
        service = owning.find_service(tenant, name)
        files = services.files(service, tenant.folder)
        leases = [LeaseHandle(Deployment(tenant, one), services.serving(one)) for one in files.values()]
        http = bool(leases) and leases[0].main_expose()[1].is_ingress
    if how["sticky"] == "cookie" and not http:
        raise click.UsageError("cookies are of HTTP: --sticky address")
    return RouteSettings(http=http, sticky=how["sticky"], weights=how["weights"], health_path=how["health"])
