"""The program that lets the services of one lease reach each other, and the world where the provider lets them.

Standard library only, like `shim`: it is started as `python -I -S`, one for each lease that has something to
reach, and outlives the provider as the workloads do. `linker` is the program; `spaces` enters namespaces and makes
the anteroom, which is where it listens; `streams` and `datagrams` carry bytes; `outward` runs pasta.
"""
