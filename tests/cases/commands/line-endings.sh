kiwari-ci generate
sed -i 's/$/\r/' generated/deploy/RUNBOOK.md
kiwari-ci check
