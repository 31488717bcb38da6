kiwari-ci generate --out "$OUT"
