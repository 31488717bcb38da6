cp specs/shop.yaml specs/other.yaml
kiwari-ci generate
