kiwari-ci generate
sed -i s/shop/store/ specs/shop.yaml
kiwari-ci check | tail -n 9
