touch file
kiwari-ci generate --out file/out
