"""The program inside the demo image: a page that shows what the sandbox looks like from within.

Run by path inside the sandbox, where nothing else of this project is.
"""

from __future__ import annotations

import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def facts() -> dict[str, object]:
    """What a workload can find out about where it runs."""
    processes = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    interfaces = [name for _, name in socket.if_nameindex()]
    return {
        "hostname": socket.gethostname(),
        "pid": os.getpid(),
        "pid_isolated": len(processes) < 10 and processes[0] == 1,
        "processes": len(processes),
        "interfaces": " ".join(interfaces),
        "root": " ".join(sorted(os.listdir("/"))),
    }


class Handler(BaseHTTPRequestHandler):
    server_version = "hello"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path == "/health":
            self.reply(200, "ok\n")
        elif self.path == "/":
            self.reply(200, "hello from fondaco\n" + "".join(f"{k}: {v}\n" for k, v in facts().items()))
        else:
            self.reply(404, "not here\n")

    def reply(self, status: int, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        sys.stdout.write(f"{self.address_string()} {format % args}\n")


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # HTTPServer would look the host's name up, and there is no resolver here to answer.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "localhost", self.socket.getsockname()[1]


def main() -> None:
    port = int(os.environ.get("PORT", "8080"))
    with Server(("0.0.0.0", port), Handler) as server:
        sys.stdout.write(f"hello: listening on port {port}\n")
        server.serve_forever()


if __name__ == "__main__":
    main()
