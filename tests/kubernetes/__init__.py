"""The rollout program against a cluster that is a stand-in."""
