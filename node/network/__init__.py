"""The libp2p host and what runs over it: the only package that imports libp2p.

Importing this package, or `links`, `rpc` and `peers` in it, does not load libp2p (a second and 60 MB); opening
a host does. Nothing of libp2p's own types leaves it.

    peers       peer ids and addresses as text
    host        open_host, Host, Stream
    hardening   what the swarm must not be left to do by itself
    yamux       the multiplexer, bounded
    announcing  peers are told when we serve more
    keepalive   silent connections are dropped
    ping        round trips, measured and answered
    bans        who is not let in
    outbox      the bounded queue in front of one stream
    links       one framed stream to every peer, kept alive
    rpc         requests and server streams
    kad         the table of peers by key
    mdns        nodes in the local network
    relay       leads others to peers that cannot be dialled
    places      what such a peer keeps with relays
    circuit     a connection through a relay
"""
