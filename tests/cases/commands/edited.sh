kiwari-ci generate
sed -i s/timeout-minutes/timeout/ .github/workflows/pipeline-drift.yml
kiwari-ci check
