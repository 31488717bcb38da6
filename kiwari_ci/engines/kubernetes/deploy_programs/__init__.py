"""The program that every repository with a cluster gets as it is: the module becomes deploy/bin/rollout."""
