"""Where workloads run: one port, several runtimes behind it (provider.md, Runtimes).

`port` says what every runtime does. `embedded` needs no service: it drives crun or bubblewrap itself. `oci` keeps
images. Programs that run as processes of their own, on the standard library only: `shim` (one for each workload,
outlives the provider), `netns_dialer` (joins a workload's network), `enter` (runs a command in a workload) and the
package `links` (one for each lease: what its services reach of each other, and of the world).
"""
