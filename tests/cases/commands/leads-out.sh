mkdir generated
ln -s /srv/deploy generated/deploy
kiwari-ci generate
