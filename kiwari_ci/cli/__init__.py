"""The command line: parses words, prints results, and sets exit codes. Nothing else prints or exits."""
