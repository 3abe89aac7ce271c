"""The way out of an anteroom: pasta, which carries what leaves it as connections of an ordinary user's.

    linker -> keeper -> first process of a pid namespace, in the anteroom -> pasta

So pasta, which changes who it is and with that loses what ties it to a parent, ends with the linker all the same:
the kernel ends a pid namespace with its first process. Pasta runs as the workload's user, in the workload's user
namespace, with the machine's network outside; nothing from outside comes in, nothing of this machine's loopback is
mapped, and what it may be asked for is only what the routes of the anteroom let through: see `spaces.FORBIDDEN`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import socket
import stat
import struct
import time
from contextlib import suppress
from itertools import pairwise
from typing import NoReturn

from fondaco.provider.runtimes.links import spaces
from fondaco.provider.runtimes.links.rtnetlink import Netlink, address_news

__all__ = ["Outward", "address_news", "own_addresses"]

START_S = 5.0
CARRIER_S = 0.002
PAUSE_S = (1.0, 60.0)
"""Before a pasta that ended is started again: first, and longest."""
MS_REC, MS_PRIVATE, MS_NOSUID = 0x4000, 0x40000, 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
CAPABILITY_VERSION = 0x20080522
SIOCETHTOOL, ETHTOOL_GLINK = 0x8946, 0x0A
COMPLAINT_BYTES = 2_048
"""Read of what pasta says when it does not start."""
COMPLAINTS_BYTES = 65_536
"""That it may say in all: it is kept in memory."""
OPTIONS = (
    *("--foreground", "--quiet", "--netns-only", "--ipv4-only", "--no-map-gw"),
    *("--no-dhcp", "--no-icmp", "--dns", "none", "--tcp-ports", "none", "--udp-ports", "none"),
    *("--tcp-ns", "none", "--udp-ns", "none", "--address", spaces.WORKLOAD_ADDRESS, "--netmask", "255.255.0.0"),
    *("--ns-ifname", spaces.OUTER),
)
_libc = ctypes.CDLL(None, use_errno=True)


def own_addresses() -> frozenset[str]:
    """Of this machine."""
    netlink = Netlink()
    try:
        return netlink.addresses()
    finally:
        netlink.close()


class Outward:
    """Pasta for one anteroom."""

    def __init__(self, user: int, anteroom: int, pasta: str, addresses: frozenset[str]) -> None:
        self._user, self._anteroom, self._pasta = user, anteroom, pasta
        self._addresses: frozenset[str] = frozenset()
        self._keeper = 0
        self._pause = PAUSE_S[0]
        self._again_at: float | None = None
        self.know(addresses)

    def know(self, addresses: frozenset[str]) -> None:
        """Forbid this machine's `addresses`, in place of those it had before.  Raises `OSError`."""
        come, go = addresses - self._addresses, self._addresses - addresses

        def job() -> spaces.Made:
            netlink = Netlink()
            for address in come:
                netlink.prohibit(address, 32)
            for address in go:
                netlink.permit(address, 32)
            return b"", []

        spaces.within(self._user, self._anteroom, job)
        self._addresses = addresses

    def start(self) -> None:
        """Return once it carries.  Raises `OSError` with what pasta said if it does not."""
        told, telling = os.pipe()
        said = os.memfd_create("complaints")
        self._keeper = os.fork()
        if not self._keeper:
            try:
                # Copies of the linker's sockets would keep its connections from ending.
                os.dup2(said, 2)
                kept = [0, 1, 2, self._user, self._anteroom, telling, said]
                for low, high in pairwise(sorted(kept)):
                    os.closerange(low + 1, high)
                os.closerange(max(kept) + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
                _keep(self._user, self._anteroom, self._pasta, telling, said)
            except OSError as error:
                os.write(said, str(error).encode())
            finally:
                os._exit(1)  # whatever happens: never two of the linker
        os.close(telling)
        came = spaces.readable(told, START_S) and os.read(told, 1)
        complaint = os.pread(said, COMPLAINT_BYTES, 0).decode("utf-8", "replace")
        for fd in (told, said):
            os.close(fd)
        if not came:
            self.close()
            raise OSError(5, f"pasta does not work here: {' '.join(complaint.split()) or 'it says nothing'}")

    def tend(self, now: float) -> None:
        """Start it again if it has ended, with a growing pause."""
        if self._again_at is not None:
            if now >= self._again_at:
                self._again_at = None
                with suppress(OSError):
                    self.start()
            return
        if not self._keeper or os.waitpid(self._keeper, os.WNOHANG) != (0, 0):
            self._keeper = 0
            self._again_at = now + self._pause
            self._pause = min(PAUSE_S[1], 2 * self._pause)

    def close(self) -> None:
        """End it, and all that it started."""
        if self._keeper:
            os.kill(self._keeper, signal.SIGKILL)
            os.waitpid(self._keeper, 0)
            self._keeper = 0


def _keep(user: int, anteroom: int, pasta: str, telling: int, said: int) -> NoReturn:
    """The keeper: join the workload's user namespace, and hold a pid namespace."""
    _open_to_all()
    for which, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, COMPLAINTS_BYTES)):
        resource.setrlimit(which, (most, most))
    executable = os.open(pasta, os.O_RDONLY)
    spaces.join(user, spaces.CLONE_NEWUSER)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    spaces.leave(spaces.CLONE_NEWPID)
    _die_with_parent()
    first = os.fork()
    if first:
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 1)
    _die_with_parent()
    go, going = os.pipe()
    me = os.readlink("/proc/self")  # as /proc numbers it: here it is 1
    child = os.fork()
    if not child:
        os.read(go, 1)
        _become_pasta(executable, me, said)
    spaces.join(anteroom, spaces.CLONE_NEWNET)
    # Pasta may only look at a process that has no more power than itself, and that does not hide.
    spaces.check(_libc.capset(struct.pack("=Ii", CAPABILITY_VERSION, 0), bytes(24)))
    spaces.check(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
    os.write(going, b"x")
    _await_carrier(child, telling)
    _, status = os.waitpid(child, 0)
    os._exit(1)


def _become_pasta(executable: int, keeper: str, said: int) -> NoReturn:
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(said, 2)
    for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # pasta takes one that is ignored for an error
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.set_inheritable(executable, True)
    argv = ["pasta", *OPTIONS, "--netns", f"/proc/{keeper}/ns/net"]
    os.execve(f"/proc/self/fd/{executable}", argv, {"PATH": "/nonexistent"})


def _await_carrier(child: int, telling: int) -> None:
    """Tell once pasta has taken its end of the interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        while not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if _has_carrier(asking, spaces.OUTER):
                os.write(telling, b"x")
                break
            time.sleep(CARRIER_S)  # there is nothing to wait for
    os.close(telling)


def _has_carrier(asking: socket.socket, name: str) -> bool:
    """Whether somebody holds the other end of the interface. Its flags say so too, but up to a second late."""
    link = ctypes.create_string_buffer(struct.pack("=II", ETHTOOL_GLINK, 0), 8)
    fcntl.ioctl(asking, SIOCETHTOOL, struct.pack("16sP16x", name.encode(), ctypes.addressof(link)))
    return bool(struct.unpack("=II", link.raw)[1])


def _die_with_parent() -> None:
    spaces.check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def _open_to_all() -> None:
    """Where root alone may open /dev/net/tun, give those to come one of their own: it gives no power by itself."""
    if os.geteuid() or os.stat("/dev/net/tun").st_mode & stat.S_IWOTH:
        return
    spaces.leave(spaces.CLONE_NEWNS)
    spaces.check(_libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    spaces.check(_libc.mount(b"tmpfs", b"/dev/net", b"tmpfs", MS_NOSUID, b"mode=755,size=4k"))
    os.mknod("/dev/net/tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod("/dev/net/tun", 0o666)
