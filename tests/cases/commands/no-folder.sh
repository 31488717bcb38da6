touch deploy
kiwari-ci generate
