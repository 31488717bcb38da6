kiwari-ci generate
sed -i 's/$/\r/' deploy/RUNBOOK.md
kiwari-ci check
