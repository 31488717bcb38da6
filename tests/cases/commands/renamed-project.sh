kiwari-ci generate
sed -i s/shop/store/ specs/shop.yaml
kiwari-ci generate --force | tail -n 2
