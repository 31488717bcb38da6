"""The spec with defaults and overrides applied: what rules, planning, engines and proxies read."""
