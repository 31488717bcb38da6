"""The command diff: reads two sets of files with the same code, and reports how the pipelines differ.

Files → snapshot (workflows and stacks) → responsibilities → changes → report.
"""
