"""What a node comes to need, loaded before it is there; see `node.forked`."""

import hypercorn.trio

import fondaco.node.api
import fondaco.node.app
import fondaco.node.cli.node
import fondaco.node.network.dial
import fondaco.node.network.hardening
import fondaco.node.network.keepalive
import fondaco.node.network.notices
import fondaco.node.provider_host
import fondaco.provider.runtimes.bubblewrap
import fondaco.provider.runtimes.crun
import fondaco.provider.runtimes.embedded

__all__ = ["fondaco", "hypercorn"]
