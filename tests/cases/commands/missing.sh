kiwari-ci generate
rm generated/deploy/RUNBOOK.md generated/.github/workflows/.gitattributes
kiwari-ci check | tail -n 4
