head -c 2000000 /dev/zero >dump.yaml
kiwari-ci validate dump.yaml
