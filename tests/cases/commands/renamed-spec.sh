kiwari-ci generate
mv specs/shop.yaml specs/store.yaml
kiwari-ci generate | tail -n 3
