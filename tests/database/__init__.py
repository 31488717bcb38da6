"""Tests of the database program."""
