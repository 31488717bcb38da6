"""Kubernetes: the rollout program, and the manifests that it applies."""
