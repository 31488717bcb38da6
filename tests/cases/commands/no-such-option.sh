kiwari-ci generate --output .
