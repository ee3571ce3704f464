"""What is published: what is due, what may be, how a repo is composed and checked, and by what right."""
