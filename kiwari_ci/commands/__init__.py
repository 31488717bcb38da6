"""One module or folder for each command of kiwari-ci."""
