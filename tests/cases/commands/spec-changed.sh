kiwari-ci generate --out generated
sed -i s/8080/8081/ specs/shop.yaml
kiwari-ci check | tail -n 8
