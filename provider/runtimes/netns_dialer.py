"""Connects inside other network namespaces and hands the sockets back.

A process of its own because joining a namespace cannot be undone: one child is forked for each request, joins,
connects, passes the descriptor and is gone. Run by path, standard library only:

    netns_dialer.py CONTROL_FD

CONTROL_FD is a SOCK_SEQPACKET socket. A request is `<port> <timeout ms>` with two descriptors: a socket
to answer on and the network namespace. The answer is `ok` with the connected socket, or `<errno>`. It ends when
the control socket closes.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
NS_GET_USERNS = 0xB701
REQUEST_BYTES = 64


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are reaped by the kernel
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    libc = ctypes.CDLL(None, use_errno=True)
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        text, fds, _, _ = socket.recv_fds(control, REQUEST_BYTES, 2)
        if not text:
            return
        if os.fork() == 0:
            control.close()
            port, timeout_ms = (int(word) for word in text.split())
            answer(libc, fds[0], fds[1], port, timeout_ms)
            os._exit(0)
        for fd in fds:
            os.close(fd)


def answer(libc: ctypes.CDLL, reply_fd: int, network: int, port: int, timeout_ms: int) -> None:
    reply = socket.socket(fileno=reply_fd)
    try:
        owner = fcntl.ioctl(network, NS_GET_USERNS)
        for fd, kind in ((owner, CLONE_NEWUSER), (network, CLONE_NEWNET)):
            if libc.setns(fd, kind):
                raise OSError(ctypes.get_errno(), "setns")
        with socket.create_connection(("127.0.0.1", port), timeout_ms / 1000) as connected:
            socket.send_fds(reply, [b"ok"], [connected.fileno()])
    except TimeoutError:
        reply.send(b"110")
    except OSError as error:
        reply.send(str(error.errno or 5).encode())


if __name__ == "__main__":
    main()
