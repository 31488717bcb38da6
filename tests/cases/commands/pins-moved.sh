kiwari-ci generate
sed -i -E 's/checkout@\w+ # \S+/checkout@0123456789abcdef0123456789abcdef01234567 # v99.0.0/' .github/workflows/*.yml
kiwari-ci check | tail -n 4
