"""Checking what is published, by anybody and of anybody: what is proven, what is contradicted, and what stays open."""
