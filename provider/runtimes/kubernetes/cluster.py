"""A cluster as the runtime wants it: a lease's ground, and pods that start, end and are removed."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import trio

from fondaco.protocol.errors import Refused, Unreachable
from fondaco.protocol.scalars import LeaseId
from fondaco.provider.runtimes.kubernetes import objects, state
from fondaco.provider.runtimes.kubernetes.client import ApiServer, Gone
from fondaco.provider.runtimes.kubernetes.names import PROVIDER, lease_of, namespace_of, place_of, workload_of
from fondaco.provider.runtimes.kubernetes.objects import Object
from fondaco.provider.runtimes.kubernetes.shape import Shape, Users
from fondaco.provider.runtimes.port import State, Workload, WorkloadId, WorkloadSpec

log = logging.getLogger("fondaco.provider")
PLACES = {
    "ResourceQuota": "/api/v1/namespaces/{}/resourcequotas",
    "Service": "/api/v1/namespaces/{}/services",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Pod": "/api/v1/namespaces/{}/pods",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
}
"""By kind; namespaces themselves lie in NAMESPACES."""
NAMESPACES = "/api/v1/namespaces"
START_S = 900.0
"""For an image to be pulled and a pod to run, once it has a node."""
PLACE_S = 60.0
"""For a node to be found."""
NODE_S = 30.0
"""For a node to end a pod, beyond its grace; a node that takes longer is taken for lost."""
REMOVE_S = 120.0
LOOK_S = 0.5
AGAIN_S = (1.0, 15.0)
"""First and longest pause before a server that is away is asked again."""
ROOT_IN_RESTRICTED = (1, 35)
"""From this version on, `restricted` allows root in a user namespace."""


class Cluster:
    """What a runtime does in a cluster."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api

    async def version(self) -> str:
        """`v1.36.2`, as the server says."""
        return str((await self.api.get("/version") or {}).get("gitVersion", ""))

    async def suited(self, shape: Shape) -> Shape:
        """`shape`, with the strictest level that this server's version can hold its pods to."""
        found = await self.api.get("/version") or {}
        numbers = [str(found.get(name, "")).rstrip("+") for name in ("major", "minor")]
        version = tuple(int(one) if one.isdigit() else 0 for one in numbers)
        restricted = shape.users is Users.NONROOT or version >= ROOT_IN_RESTRICTED
        return replace(shape, pod_security="restricted" if restricted else "baseline")

    # --- Ground

    async def has_ground(self, lease: LeaseId) -> bool:
        """Whether the lease has its namespace.  Raises `Refused` `runtime.start` while an old one is removed."""
        found = await self.api.get(f"{NAMESPACES}/{namespace_of(lease)}")
        if found is not None and "deletionTimestamp" in found["metadata"]:
            raise Refused("runtime.start", "the lease's namespace is being removed", hint="try again soon")
        return found is not None

    async def lay_ground(self, specs: Sequence[WorkloadSpec], shape: Shape) -> None:
        """Have the lease's namespace, its policies before all else, and nothing of an earlier manifest."""
        lease = specs[0].lease
        await self.has_ground(lease)
        await self.api.apply(f"{NAMESPACES}/{namespace_of(lease)}", objects.namespace(lease, shape))
        policies, services = objects.policies(specs, shape), objects.services(specs, shape)
        for wanted in (*policies, objects.quota(specs, shape), *services):
            await self.apply(wanted)
        for kind, kept in (("NetworkPolicy", policies), ("Service", services)):
            names = {one["metadata"]["name"] for one in kept}
            where = PLACES[kind].format(namespace_of(lease))
            for found in await self.api.all(where, labelSelector=f"{PROVIDER}={shape.provider}"):
                if found["metadata"]["name"] not in names:
                    await self.api.delete(f"{where}/{found['metadata']['name']}")

    async def remove_namespace(self, name: str, provider: str) -> None:
        """Return when it is gone; one that is not `provider`'s is left alone.  Raises `runtime.kubernetes`."""
        path = f"{NAMESPACES}/{name}"
        with trio.move_on_after(REMOVE_S):
            while (found := await self.api.get(path)) is not None:
                if (found["metadata"].get("labels") or {}).get(PROVIDER) != provider or lease_of(name) is None:
                    log.warning("a namespace is another's", extra={"namespace": name})
                    return
                if "deletionTimestamp" not in found["metadata"]:
                    await self.api.delete(path)
                await trio.sleep(LOOK_S)
            return
        raise Refused("runtime.kubernetes", f"namespace {name} is not gone after {REMOVE_S:.0f} s")

    async def apply(self, wanted: Object) -> None:
        await self.api.apply(f"{_place(wanted)}/{wanted['metadata']['name']}", wanted)

    async def ensure(self, wanted: Object) -> None:
        """Make it unless it is there: what may not be changed once it is made."""
        await self.api.create(_place(wanted), wanted)

    async def create(self, wanted: Object) -> Object | None:
        """Make a pod, or None if there is one of that name."""
        return await self.api.create(_place(wanted), wanted)

    # --- Pods

    async def pods(self, provider: str) -> list[Object]:
        """All of a provider's, in all namespaces."""
        return await self.api.all("/api/v1/pods", labelSelector=f"{PROVIDER}={provider}")

    async def find(self, workload: WorkloadId) -> Object | None:
        """Its pod."""
        namespace, name = place_of(workload)
        return await self.api.get(f"{PLACES['Pod'].format(namespace)}/{name}")

    async def changes(self, workload: WorkloadId) -> AsyncGenerator[Object | None, None]:
        """Its pod as it is now and whenever that changes; None when it is gone."""
        namespace, name = place_of(workload)
        path = PLACES["Pod"].format(namespace)
        while True:
            found = await self.api.get(f"{path}/{name}")
            if found is None:
                break
            yield found
            events = self.api.watch(
                path, found["metadata"]["resourceVersion"], fieldSelector=f"metadata.name={name}"
            )
            try:
                async with aclosing(events):
                    async for kind, pod in events:
                        yield pod
                        if kind == "DELETED":
                            yield None
                            return
            except Gone:
                await trio.lowlevel.checkpoint()
        yield None

    async def started(self, made: Object) -> Workload:
        """Return once it runs, or has run.

        Raises `Refused` `runtime.capacity` where no node takes it, `image.pull` and `runtime.start`.
        """
        identity = workload_of(made)
        assert identity is not None, "we made it"
        pod: Object | None = made
        with trio.CancelScope(deadline=trio.current_time() + PLACE_S) as scope:
            async with aclosing(self.changes(identity)) as changes:
                async for pod in changes:
                    if pod is None:
                        break
                    told, wrong = state.read(pod), state.cannot_start(pod)
                    if wrong is not None:
                        raise Refused(wrong[0], f"{identity}: {wrong[1]}"[:500])
                    if told is not None and told.state is not State.STARTING:
                        return told
                    if pod["spec"].get("nodeName") and scope.deadline < trio.current_time() + START_S / 2:
                        scope.deadline = trio.current_time() + START_S
        if pod is None:
            raise Refused("runtime.start", f"{identity}: the cluster removed it before it ran")
        if not pod["spec"].get("nodeName"):
            why = state.unschedulable(pod) or "none was found in time"
            raise Refused("runtime.capacity", f"{identity}: no node takes it: {why}"[:500])
        raise Refused("runtime.start", f"{identity} does not run after {START_S:.0f} s")

    async def ended(self, workload: WorkloadId) -> Workload:
        """Return once it does not run, however often the server is away meanwhile.

        Raises `Refused` `workload.unknown` where there is none.
        """
        pause, last = AGAIN_S[0], None
        while True:
            try:
                async with aclosing(self.changes(workload)) as changes:
                    async for pod in changes:
                        pause = AGAIN_S[0]
                        told = None if pod is None else state.read(pod)
                        if told is None:
                            break
                        if told.state in (State.EXITED, State.LOST):
                            return told
                        last = told
                break
            except Unreachable as error:
                log.info("not watched for now", extra={"workload": workload, "code": error.code})
            await trio.sleep(pause)
            pause = min(AGAIN_S[1], 2 * pause)
        if last is None:
            raise Refused("workload.unknown", f"there is no workload {workload}")
        return replace(last, state=State.LOST)

    async def remove(self, workload: WorkloadId, *, grace_ms: int) -> Workload | None:
        """Ask it to end, then have it removed; return when it is, with how it ended.

        A grace of none would remove the pod before its node has ended it, so that is left for nodes that are lost.
        """
        namespace, name = place_of(workload)
        path = f"{PLACES['Pod'].format(namespace)}/{name}"
        grace_s = max(1, math.ceil(grace_ms / 1_000))
        last: Workload | None = None
        if await self.api.delete(path, grace_s=grace_s) is None:
            return None
        with trio.move_on_after(grace_s + NODE_S):
            async with aclosing(self.changes(workload)) as changes:
                async for pod in changes:
                    if pod is None:
                        return last
                    last = state.read(pod) or last
        log.warning("its node does not end it: given up", extra={"workload": workload})
        await self.api.delete(path, grace_s=0)
        return None if last is None else replace(last, state=State.LOST, exit_code=None)


def _place(wanted: Object) -> str:
    return PLACES[wanted["kind"]].format(wanted["metadata"]["namespace"])
