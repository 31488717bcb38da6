"""What deploys on the machines that a pipeline delivers to: a folder for each kind of engine."""
