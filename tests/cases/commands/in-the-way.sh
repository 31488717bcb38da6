mkdir -p generated/deploy/RUNBOOK.md
kiwari-ci generate
