"""The machines that jobs may run on: what there is, what a job takes there, and which of them it gets."""
