kiwari-ci genrate
