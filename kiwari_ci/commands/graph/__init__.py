"""The command graph: draws the pipeline as Mermaid or as an HTML page."""
