kiwari-ci generate
sed -i s/timeout-minutes/timeout/ generated/.github/workflows/pipeline-drift.yml
kiwari-ci check
