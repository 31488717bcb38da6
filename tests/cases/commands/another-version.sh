kiwari-ci generate
sed -i 's/kiwari-ci==[0-9.]*/kiwari-ci==0.0.9/' .github/workflows/pipeline-drift.yml
kiwari-ci check | tail -n 3
