"""The command affected: which workflows, images and containers a change or a tag reaches."""
