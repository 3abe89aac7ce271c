"""What a pod's status says of the workload that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fondaco.provider.runtimes.kubernetes.names import DEFINITION, workload_of
from fondaco.provider.runtimes.logs import moment
from fondaco.provider.runtimes.port import Reason, State, Workload

NEVER_RAN = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError", "InvalidImageName")
NOT_PULLED = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError")
LOST_CODES = ("ContainerStatusUnknown", "NodeLost")
"""The exit code beside them is made up."""


def read(pod: Mapping[str, Any]) -> Workload | None:
    """The workload that `pod` is, as it was when the pod was looked at; None if it is none of a provider's."""
    identity = workload_of(pod)
    if identity is None:
        return None
    container = _container(pod)
    ended = container.get("terminated")
    started = (ended or container.get("running") or {}).get("startedAt") or ""
    state, code = _state(pod, ended)
    return Workload(
        id=identity,
        state=state,
        pid=None,
        exit_code=code,
        started_at=moment(started),
        definition=(pod["metadata"].get("annotations") or {}).get(DEFINITION, ""),
        reason=_reason(pod, ended),
    )


def _state(pod: Mapping[str, Any], ended: Mapping[str, Any] | None) -> tuple[State, int | None]:
    status = pod.get("status") or {}
    if ended is not None and ended.get("reason") not in LOST_CODES:
        return State.EXITED, int(ended.get("exitCode", 0)) & 0xFF
    if status.get("phase") in ("Succeeded", "Failed", "Unknown") or ended is not None or _is_given_up(pod):
        return State.LOST, None
    return (State.RUNNING if "running" in _container(pod) else State.STARTING), None


def _is_given_up(pod: Mapping[str, Any]) -> bool:
    """Whether the cluster removes it because its node does not answer: nobody will say how it ended."""
    status = pod.get("status") or {}
    if "deletionTimestamp" not in pod["metadata"]:
        return False
    disrupted = any(
        one.get("type") == "DisruptionTarget"
        and one.get("status") == "True"
        and one.get("reason") == "DeletionByTaintManager"
        for one in status.get("conditions") or ()
    )
    return disrupted or status.get("reason") == "NodeLost"


def _reason(pod: Mapping[str, Any], ended: Mapping[str, Any] | None) -> Reason | None:
    if ended is not None and ended.get("reason") == "OOMKilled":
        return Reason.MEMORY
    status = pod.get("status") or {}
    told = status.get("message") or ""
    if status.get("reason") == "Evicted" and ("ephemeral" in told or "EmptyDir" in told or "disk" in told.lower()):
        return Reason.DISK
    return None


def cannot_start(pod: Mapping[str, Any]) -> tuple[str, str] | None:
    """The code and the words of why it will not start as it is; None while it may."""
    waiting = _container(pod).get("waiting") or {}
    reason, told = waiting.get("reason", ""), waiting.get("message") or ""
    if reason in NOT_PULLED:
        return "image.pull", f"the cluster cannot pull the image: {told or reason}"
    if reason in NEVER_RAN:
        return "runtime.start", told or reason
    ended = _container(pod).get("terminated") or {}
    if ended.get("reason") in ("StartError", "ContainerCannotRun"):
        return "runtime.start", ended.get("message") or ended["reason"]
    return None


def unschedulable(pod: Mapping[str, Any]) -> str:
    """Why no node takes it, in the scheduler's words; empty if one did or it was not looked for yet."""
    for one in (pod.get("status") or {}).get("conditions") or ():
        if one.get("type") == "PodScheduled" and one.get("status") == "False":
            return str(one.get("message") or one.get("reason") or "no node takes it")
    return ""


def _container(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state of its one container."""
    found = (pod.get("status") or {}).get("containerStatuses") or ()
    state: Mapping[str, Any] = (found[0].get("state") or {}) if found else {}
    return state
