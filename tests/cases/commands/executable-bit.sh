kiwari-ci generate
chmod -x generated/deploy/bin/deploy
kiwari-ci check
