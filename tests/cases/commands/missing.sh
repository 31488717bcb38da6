kiwari-ci generate
rm deploy/RUNBOOK.md .github/workflows/.gitattributes
kiwari-ci check | tail -n 4
