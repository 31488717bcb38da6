kiwari-ci generate
sed -i 's|actions/checkout@.*|actions/checkout@1111111111111111111111111111111111111111 # v6.9.12|' .github/workflows/*.yml
kiwari-ci pins pull
