"""The six steps of a release: watch, plan, build, verify, publish, announce. One module each."""
