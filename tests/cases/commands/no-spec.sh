rm specs/shop.yaml
kiwari-ci generate
