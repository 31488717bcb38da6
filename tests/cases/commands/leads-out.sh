ln -s /srv/deploy deploy
kiwari-ci generate
