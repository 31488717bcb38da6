mkdir -p deploy/RUNBOOK.md
kiwari-ci generate
