"""What GitHub Actions defines: path filters, and actions pinned to commits."""
