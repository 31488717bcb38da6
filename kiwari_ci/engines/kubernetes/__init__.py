"""Kubernetes: its plan, its rules and its manifests, and the program that applies them."""
