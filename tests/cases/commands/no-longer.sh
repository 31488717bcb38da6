kiwari-ci generate
sed -i s/production/live/ specs/shop.yaml
kiwari-ci check | tail -n 9
