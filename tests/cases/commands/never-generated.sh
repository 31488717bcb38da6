kiwari-ci check
