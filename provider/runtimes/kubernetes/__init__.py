"""Workloads as pods of a Kubernetes cluster: pure builders of objects, a client, streams, and the runtime."""
