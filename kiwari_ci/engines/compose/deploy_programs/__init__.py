"""The programs that every repository gets as they are: each module becomes a file of deploy/bin."""
