kiwari-ci generate
chmod -x deploy/bin/deploy
kiwari-ci check
