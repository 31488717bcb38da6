kiwari-ci generate
sed -i 's|actions/checkout@.*|actions/checkout@1111111111111111111111111111111111111111 # v7.1.0|' .github/workflows/web-ci.yml
kiwari-ci pins pull
