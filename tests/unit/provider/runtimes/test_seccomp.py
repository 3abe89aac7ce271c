"""The filter, run by a small interpreter of classic BPF: both architectures, without the kernel of either."""

from __future__ import annotations

import errno
import struct

import pytest

from fondaco.provider.runtimes import seccomp

ALLOW, ERRNO = 0x7FFF0000, 0x00050000


def judge(arch: str, number: int, *args: int, audit: int | None = None) -> int:
    """What the filter answers: 0 for allowed, else the error."""
    audit = seccomp.AUDIT_ARCH[arch] if audit is None else audit
    data = struct.pack("<IIQ6Q", number, audit, 0, *args, *([0] * (6 - len(args))))
    code = list(struct.iter_unpack("<HBBI", seccomp.program(arch)))
    at = accumulator = 0
    while True:
        op, if_true, if_false, value = code[at]
        at += 1
        if op == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif op == 0x06:
            assert value == ALLOW or value & 0xFFFF0000 == ERRNO
            return 0 if value == ALLOW else value & 0xFFFF
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}
            at += if_true if holds[op] else if_false


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_every_listed_call_is_denied_and_ordinary_ones_are_not(arch: str) -> None:
    column = list(seccomp.AUDIT_ARCH).index(arch)
    denied = {numbers[column] for numbers in seccomp.DENIED.values()} - {None}
    special = {seccomp.CLONE[column], seccomp.CLONE3[column], seccomp.SOCKET[column], seccomp.IOCTL[column]}
    for number in range(500):
        if number not in special:
            assert judge(arch, number) == (errno.EPERM if number in denied else 0), number


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_clone_may_make_processes_and_threads_but_no_namespaces(arch: str) -> None:
    column = list(seccomp.AUDIT_ARCH).index(arch)
    clone = seccomp.CLONE[column]
    assert judge(arch, clone, 17) == 0
    assert judge(arch, clone, 0x3D0F00) == 0
    for bit in range(32):
        flag = 1 << bit
        expected = errno.EPERM if flag & seccomp.NAMESPACE_FLAGS else 0
        assert judge(arch, clone, flag | 17) == expected
    assert judge(arch, seccomp.CLONE3[column], 0) == errno.ENOSYS


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_sockets_are_local_internet_or_netlink_only(arch: str) -> None:
    socket = seccomp.SOCKET[list(seccomp.AUDIT_ARCH).index(arch)]
    for domain in range(64):
        expected = 0 if domain in (1, 2, 10, 16) else errno.EAFNOSUPPORT
        assert judge(arch, socket, domain, 1) == expected


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_terminals_take_no_injected_input(arch: str) -> None:
    ioctl = seccomp.IOCTL[list(seccomp.AUDIT_ARCH).index(arch)]
    assert judge(arch, ioctl, 0, 0x5412) == errno.EPERM
    assert judge(arch, ioctl, 0, 0x541C) == errno.EPERM
    assert judge(arch, ioctl, 0, 0x5401) == 0


def test_calls_by_another_architectures_numbers_are_denied() -> None:
    assert judge("x86_64", 1, audit=0x40000003) == errno.EPERM
    assert judge("x86_64", 0x40000001) == errno.EPERM
    assert judge("aarch64", 1, audit=0x40000028) == errno.EPERM


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_the_oci_profile_denies_the_same_calls(arch: str) -> None:
    profile = seccomp.oci_profile(arch)
    rules = profile["syscalls"]
    assert isinstance(rules, list)
    column = list(seccomp.AUDIT_ARCH).index(arch)
    assert set(rules[0]["names"]) == {name for name, n in seccomp.DENIED.items() if n[column] is not None}
    assert {name for rule in rules[1:] for name in rule["names"]} == {"clone3", "clone", "socket", "ioctl"}
    assert profile["architectures"] == [f"SCMP_ARCH_{arch.upper()}"]
