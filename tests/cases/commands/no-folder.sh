mkdir generated
touch generated/deploy
kiwari-ci generate
